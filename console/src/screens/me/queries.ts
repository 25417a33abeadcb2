import { queryOptions } from "@tanstack/react-query";

import { get } from "../../api/client";

export const passkeysQuery = queryOptions({ queryKey: ["me", "passkeys"], queryFn: () => get("/me/passkeys") });

export const ownSessionsQuery = queryOptions({ queryKey: ["me", "sessions"], queryFn: () => get("/me/sessions") });
