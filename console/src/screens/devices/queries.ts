import { queryOptions } from "@tanstack/react-query";

import { get } from "../../api/client";
import type { Device } from "../../api/types";

export const PAGE_ROWS = 100;

export type DeviceFilter = Partial<Record<"model" | "group" | "state" | "firmware" | "search", string>>;

/** The filter as the API's parameters; a state that is none is refused there, with what it expects. */
const asQuery = ({ state, ...others }: DeviceFilter) => ({ ...others, state: state as Device["state"] | undefined });

export const countsQuery = (filter: DeviceFilter) =>
  queryOptions({
    queryKey: ["counts", filter],
    queryFn: ({ signal }) => get("/devices/counts", { params: { query: asQuery(filter) }, signal }),
    staleTime: 10_000,
  });

/** Rows `page * PAGE_ROWS` and following of the filtered list. */
export const devicePageQuery = (filter: DeviceFilter, sort: string, page: number) =>
  queryOptions({
    queryKey: ["devices", filter, sort, page],
    queryFn: ({ signal }) =>
      get("/devices", { params: { query: { ...asQuery(filter), sort, at: page * PAGE_ROWS, limit: PAGE_ROWS } }, signal }),
    staleTime: 10_000,
  });

export const filtersQuery = queryOptions({ queryKey: ["filters"], queryFn: () => get("/filters") });
