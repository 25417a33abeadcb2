import { queryOptions } from "@tanstack/react-query";

import { get } from "./client";
import type { Device } from "./types";

export const PAGE_ROWS = 100;

export type DeviceFilter = Partial<Record<"model" | "group" | "state" | "firmware" | "search", string>>;

/** The filter as the API's parameters; a state that is none is refused there, with what it expects. */
const asQuery = ({ state, ...others }: DeviceFilter) => ({ ...others, state: state as Device["state"] | undefined });

const ofDevice = (id: string, part: string) => ["device", id, part] as const;

export const todayQuery = queryOptions({
  queryKey: ["today"],
  queryFn: () => get("/overview/today"),
  staleTime: 30_000,
});

export const countsQuery = (filter: DeviceFilter) =>
  queryOptions({
    queryKey: ["counts", filter],
    queryFn: ({ signal }) => get("/devices/counts", { query: asQuery(filter), signal }),
    staleTime: 10_000,
  });

/** Rows `page * PAGE_ROWS` and following of the filtered list. */
export const devicePageQuery = (filter: DeviceFilter, sort: string, page: number) =>
  queryOptions({
    queryKey: ["devices", filter, sort, page],
    queryFn: ({ signal }) =>
      get("/devices", { query: { ...asQuery(filter), sort, at: page * PAGE_ROWS, limit: PAGE_ROWS }, signal }),
    staleTime: 10_000,
  });

export const deviceQuery = (id: string) =>
  queryOptions({
    queryKey: ofDevice(id, "self"),
    queryFn: () => get("/devices/{device_id}", { path: { device_id: id } }),
  });
export const certificatesQuery = (id: string) =>
  queryOptions({
    queryKey: ofDevice(id, "certificates"),
    queryFn: () => get("/devices/{device_id}/certificates", { path: { device_id: id } }),
  });
export const appraisalsQuery = (id: string) =>
  queryOptions({
    queryKey: ofDevice(id, "appraisals"),
    queryFn: () => get("/devices/{device_id}/appraisals", { path: { device_id: id } }),
  });
export const presenceQuery = (id: string) =>
  queryOptions({
    queryKey: ofDevice(id, "presence"),
    queryFn: () => get("/devices/{device_id}/presence", { path: { device_id: id } }),
  });
export const whyQuery = (id: string) =>
  queryOptions({
    queryKey: ofDevice(id, "why"),
    queryFn: () => get("/devices/{device_id}/why", { path: { device_id: id } }),
  });
export const firmwareQuery = (id: string) =>
  queryOptions({
    queryKey: ofDevice(id, "firmware"),
    queryFn: () => get("/devices/{device_id}/firmware", { path: { device_id: id } }),
  });
export const commandsQuery = (id: string) =>
  queryOptions({
    queryKey: ofDevice(id, "commands"),
    queryFn: () => get("/devices/{device_id}/commands", { path: { device_id: id } }),
  });
export const eventsQuery = (id: string) =>
  queryOptions({
    queryKey: ofDevice(id, "events"),
    queryFn: async () => (await get("/events", { query: { device: id, limit: 5000 } })).events,
  });

export const modelsQuery = queryOptions({ queryKey: ["models"], queryFn: () => get("/models"), staleTime: 60_000 });
export const releasesQuery = queryOptions({ queryKey: ["releases"], queryFn: () => get("/releases") });
export const releaseQuery = (model: string, version: string) =>
  queryOptions({
    queryKey: ["releases", model, version],
    queryFn: () => get("/releases/{model}/{version}", { path: { model, version } }),
  });

export const authoritiesQuery = queryOptions({
  queryKey: ["authorities"],
  queryFn: () => get("/pki/authorities"),
  staleTime: 60_000,
});
export const checklistQuery = queryOptions({
  queryKey: ["checklist"],
  queryFn: () => get("/settings/checklist"),
  staleTime: 30_000,
});
export const healthQuery = queryOptions({ queryKey: ["health"], queryFn: () => get("/health") });

export const operatorsQuery = queryOptions({ queryKey: ["operators"], queryFn: () => get("/operators") });
export const operatorQuery = (name: string) =>
  queryOptions({
    queryKey: ["operators", name],
    queryFn: () => get("/operators/{name}", { path: { name } }),
  });
export const operatorSessionsQuery = (name: string) =>
  queryOptions({
    queryKey: ["operators", name, "sessions"],
    queryFn: () => get("/operators/{name}/sessions", { path: { name } }),
  });
export const rolesQuery = queryOptions({ queryKey: ["roles"], queryFn: () => get("/roles"), staleTime: 300_000 });
export const tokensQuery = queryOptions({ queryKey: ["tokens"], queryFn: () => get("/tokens") });
export const breakGlassQuery = queryOptions({ queryKey: ["break-glass"], queryFn: () => get("/break-glass") });
export const reviewsQuery = queryOptions({ queryKey: ["reviews"], queryFn: () => get("/reviews") });
export const reviewQuery = (id: string) =>
  queryOptions({
    queryKey: ["reviews", id],
    queryFn: () => get("/reviews/{review_id}", { path: { review_id: id } }),
  });

export const passkeysQuery = queryOptions({ queryKey: ["me", "passkeys"], queryFn: () => get("/me/passkeys") });
export const ownSessionsQuery = queryOptions({ queryKey: ["me", "sessions"], queryFn: () => get("/me/sessions") });
export const filtersQuery = queryOptions({ queryKey: ["filters"], queryFn: () => get("/filters") });
