import { queryOptions } from "@tanstack/react-query";

import { get } from "./client";
import type {
  Appraisal,
  Authority,
  BreakGlass,
  Card,
  Certificate,
  Check,
  Counts,
  Device,
  DeviceCommand,
  FirmwareView,
  Model,
  Operator,
  Presence,
  Release,
  Review,
  ReviewDetail,
  RoleView,
  SessionView,
  Token,
  Why,
} from "./types";

export const PAGE_ROWS = 100;

export type DeviceFilter = Partial<Record<"model" | "group" | "state" | "firmware" | "search", string>>;

export const todayQuery = queryOptions({
  queryKey: ["today"],
  queryFn: () => get<{ cards: Card[] }>("/overview/today"),
  staleTime: 30_000,
});

export const countsQuery = (filter: DeviceFilter) =>
  queryOptions({
    queryKey: ["counts", filter],
    queryFn: ({ signal }) => get<Counts>("/devices/counts", { query: filter, signal }),
    staleTime: 10_000,
  });

/** Rows `page * PAGE_ROWS` and following of the filtered list. */
export const devicePageQuery = (filter: DeviceFilter, sort: string, page: number) =>
  queryOptions({
    queryKey: ["devices", filter, sort, page],
    queryFn: ({ signal }) =>
      get<{ devices: Device[] }>("/devices", {
        query: { ...filter, sort, at: page * PAGE_ROWS, limit: PAGE_ROWS },
        signal,
      }),
    staleTime: 10_000,
  });

const ofDevice = <T>(id: string, part: string, template: string) =>
  queryOptions({
    queryKey: ["device", id, part],
    queryFn: () => get<T>(template, { path: { device_id: id } }),
  });

export const deviceQuery = (id: string) => ofDevice<Device>(id, "self", "/devices/{device_id}");
export const certificatesQuery = (id: string) =>
  ofDevice<Certificate[]>(id, "certificates", "/devices/{device_id}/certificates");
export const appraisalsQuery = (id: string) =>
  ofDevice<Appraisal[]>(id, "appraisals", "/devices/{device_id}/appraisals");
export const presenceQuery = (id: string) => ofDevice<Presence>(id, "presence", "/devices/{device_id}/presence");
export const whyQuery = (id: string) => ofDevice<Why>(id, "why", "/devices/{device_id}/why");
export const commandsQuery = (id: string) => ofDevice<DeviceCommand[]>(id, "commands", "/devices/{device_id}/commands");

export const releasesQuery = queryOptions({ queryKey: ["releases"], queryFn: () => get<Release[]>("/releases") });
export const operatorsQuery = queryOptions({ queryKey: ["operators"], queryFn: () => get<Operator[]>("/operators") });
export const modelsQuery = queryOptions({
  queryKey: ["models"],
  queryFn: () => get<Model[]>("/models"),
  staleTime: 60_000,
});
export const firmwareQuery = (id: string) => ofDevice<FirmwareView>(id, "firmware", "/devices/{device_id}/firmware");
export const releaseQuery = (model: string, version: string) =>
  queryOptions({
    queryKey: ["releases", model, version],
    queryFn: () => get<Release>("/releases/{model}/{version}", { path: { model, version } }),
  });
export const authoritiesQuery = queryOptions({
  queryKey: ["authorities"],
  queryFn: () => get<Authority[]>("/pki/authorities"),
  staleTime: 60_000,
});
export const checklistQuery = queryOptions({
  queryKey: ["checklist"],
  queryFn: () => get<Check[]>("/settings/checklist"),
  staleTime: 30_000,
});
export const rolesQuery = queryOptions({
  queryKey: ["roles"],
  queryFn: () => get<RoleView[]>("/roles"),
  staleTime: 300_000,
});
export const reviewsQuery = queryOptions({ queryKey: ["reviews"], queryFn: () => get<Review[]>("/reviews") });
export const reviewQuery = (id: string) =>
  queryOptions({
    queryKey: ["reviews", id],
    queryFn: () => get<ReviewDetail>("/reviews/{id}", { path: { id } }),
  });
export const tokensQuery = queryOptions({ queryKey: ["tokens"], queryFn: () => get<Token[]>("/tokens") });
export const breakGlassQuery = queryOptions({ queryKey: ["break-glass"], queryFn: () => get<BreakGlass[]>("/break-glass") });
export const operatorQuery = (name: string) =>
  queryOptions({
    queryKey: ["operators", name],
    queryFn: () => get<Operator>("/operators/{name}", { path: { name } }),
  });
export const operatorSessionsQuery = (name: string) =>
  queryOptions({
    queryKey: ["operators", name, "sessions"],
    queryFn: () => get<SessionView[]>("/operators/{name}/sessions", { path: { name } }),
  });
