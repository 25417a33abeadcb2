import type { Me } from "../api/types";

/** Somebody signed in who holds permissions in all groups. */
export function somebody(...permissions: string[]): Me {
  return {
    name: "ada",
    display_name: "Ada Lovelace",
    via: "session",
    csrf: "token",
    restricted: false,
    mfa_at: null,
    grants: [],
    session: null,
    permissions: Object.fromEntries(permissions.map((one) => [one, "*"])),
    factors: { passkeys: 1, password: false, totp: false, recovery_codes_left: 10 },
  };
}
