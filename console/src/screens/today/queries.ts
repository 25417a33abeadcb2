import { queryOptions, useQuery } from "@tanstack/react-query";

import { get } from "../../api/client";

export const todayQuery = queryOptions({
  queryKey: ["today"],
  queryFn: () => get("/overview/today"),
  staleTime: 30_000,
});

/** How many kinds of things wait for a decision. */
export function useOpenDecisions(): number {
  return useQuery(todayQuery).data?.cards.length ?? 0;
}
