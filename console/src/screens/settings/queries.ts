import { queryOptions } from "@tanstack/react-query";

import { get } from "../../api/client";

export const modelsQuery = queryOptions({ queryKey: ["models"], queryFn: () => get("/models"), staleTime: 60_000 });

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
