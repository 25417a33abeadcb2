import { queryOptions } from "@tanstack/react-query";

import { get } from "../../api/client";

export const eventsQuery = (id: string) =>
  queryOptions({
    queryKey: ["device", id, "events"],
    queryFn: async () => (await get("/events", { params: { query: { device: id, limit: 5000 } } })).events,
  });
