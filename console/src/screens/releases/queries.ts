import { queryOptions } from "@tanstack/react-query";

import { get } from "../../api/client";

export const firmwareQuery = (id: string) =>
  queryOptions({
    queryKey: ["device", id, "firmware"],
    queryFn: () => get("/devices/{device_id}/firmware", { params: { path: { device_id: id } } }),
  });

export const releasesQuery = queryOptions({ queryKey: ["releases"], queryFn: () => get("/releases") });

export const releaseQuery = (model: string, version: string) =>
  queryOptions({
    queryKey: ["releases", model, version],
    queryFn: () => get("/releases/{model}/{version}", { params: { path: { model, version } } }),
  });
