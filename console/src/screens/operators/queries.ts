import { queryOptions } from "@tanstack/react-query";

import { get } from "../../api/client";

export const operatorsQuery = queryOptions({ queryKey: ["operators"], queryFn: () => get("/operators") });

export const operatorQuery = (name: string) =>
  queryOptions({
    queryKey: ["operators", name],
    queryFn: () => get("/operators/{name}", { params: { path: { name } } }),
  });

export const operatorSessionsQuery = (name: string) =>
  queryOptions({
    queryKey: ["operators", name, "sessions"],
    queryFn: () => get("/operators/{name}/sessions", { params: { path: { name } } }),
  });

export const rolesQuery = queryOptions({ queryKey: ["roles"], queryFn: () => get("/roles"), staleTime: 300_000 });

export const tokensQuery = queryOptions({ queryKey: ["tokens"], queryFn: () => get("/tokens") });

export const breakGlassQuery = queryOptions({ queryKey: ["break-glass"], queryFn: () => get("/break-glass") });

export const reviewsQuery = queryOptions({ queryKey: ["reviews"], queryFn: () => get("/reviews") });

export const reviewQuery = (id: string) =>
  queryOptions({
    queryKey: ["reviews", id],
    queryFn: () => get("/reviews/{review_id}", { params: { path: { review_id: id } } }),
  });
