import { queryOptions } from "@tanstack/react-query";

import { get } from "../../api/client";

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
