import { queryOptions } from "@tanstack/react-query";

import { get } from "../../api/client";

export const commandsQuery = (id: string) =>
  queryOptions({
    queryKey: ["device", id, "commands"],
    queryFn: () => get("/devices/{device_id}/commands", { params: { path: { device_id: id } } }),
  });
