import type { Role } from "../../api/types";

export const ROLES: Role[] = ["viewer", "operator", "release-manager", "security-officer", "administrator"];
