import { useQueryClient } from "@tanstack/react-query";
import { useNavigate } from "@tanstack/react-router";

import { post } from "../api/client";

/** Return what ends the session here and at the platform. */
export function useSignOut(): () => Promise<void> {
  const client = useQueryClient();
  const navigate = useNavigate();
  return async () => {
    await post("/signout");
    client.clear();
    await navigate({ to: "/signin" });
  };
}
