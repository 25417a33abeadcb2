import { queryOptions } from "@tanstack/react-query";

import { get } from "../../api/client";

export const certificatesQuery = (id: string) =>
  queryOptions({
    queryKey: ["device", id, "certificates"],
    queryFn: () => get("/devices/{device_id}/certificates", { params: { path: { device_id: id } } }),
  });
