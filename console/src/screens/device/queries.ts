import { queryOptions } from "@tanstack/react-query";

import { get } from "../../api/client";
import { untilNext } from "./closing";

export const deviceQuery = (id: string) =>
  queryOptions({
    queryKey: ["device", id, "self"],
    queryFn: () => get("/devices/{device_id}", { params: { path: { device_id: id } } }),
  });

export const presenceQuery = (id: string) =>
  queryOptions({
    queryKey: ["device", id, "presence"],
    queryFn: () => get("/devices/{device_id}/presence", { params: { path: { device_id: id } } }),
  });

export const whyQuery = (id: string) =>
  queryOptions({
    queryKey: ["device", id, "why"],
    queryFn: () => get("/devices/{device_id}/why", { params: { path: { device_id: id } } }),
  });

export const appraisalsQuery = (id: string) =>
  queryOptions({
    queryKey: ["device", id, "appraisals"],
    queryFn: () => get("/devices/{device_id}/appraisals", { params: { path: { device_id: id } } }),
  });

/** Whether it may hold a session, gate by gate; asked again when the first open gate closes by itself. */
export const sessionQuery = (id: string) =>
  queryOptions({
    queryKey: ["device", id, "session"],
    queryFn: () => get("/devices/{device_id}/session", { params: { path: { device_id: id } } }),
    refetchInterval: (query) => untilNext(query.state.data?.closes_at ?? null, Date.now()),
  });
