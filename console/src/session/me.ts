import { queryOptions, useQuery } from "@tanstack/react-query";

import { get, setCsrf } from "../api/client";
import { isSignedOut } from "../api/problem";
import type { Me } from "../api/types";

/** Who is signed in; null when nobody is. */
export const meQuery = queryOptions({
  queryKey: ["me"],
  queryFn: async (): Promise<Me | null> => {
    try {
      return remember(await get("/me"));
    } catch (error) {
      if (isSignedOut(error)) return null;
      throw error;
    }
  },
  staleTime: 60_000,
});

export function remember(me: Me): Me {
  setCsrf(me.csrf ?? "");
  return me;
}

export function useMe(): Me {
  const { data } = useQuery(meQuery);
  if (data == null) throw new Error("expected somebody signed in, found nobody");
  return data;
}

/** Whether somebody holds a permission: in a group when one is named, else in any. */
export function can(me: Me, permission: string, group?: string): boolean {
  const groups = me.permissions[permission];
  if (groups === undefined) return false;
  return groups === "*" || group === undefined ? groups.length > 0 : groups.includes(group);
}

export function useCan(permission: string, group?: string): boolean {
  return can(useMe(), permission, group);
}

/** Whether somebody has two factors here: a passkey is both at once. */
export function canProve({ factors }: Me): boolean {
  return factors.passkeys > 0 || (factors.password && factors.totp);
}
