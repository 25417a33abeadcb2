import { Button, PasswordInput, TextInput } from "@mantine/core";
import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { useNavigate, useSearch } from "@tanstack/react-router";
import { type SubmitEvent, useState } from "react";

import { get, post } from "../api/client";
import type { Me } from "../api/types";
import { Notice, ProblemNotice } from "../design/parts";
import { remember } from "../session/me";
import { getPasskey, hasPasskeys } from "../session/webauthn";
import { Door } from "./Door";
import { localPath } from "./next";

type Means = { means: "passkey" } | { means: "password"; name: string; password: string; totp: string };

export default function SignIn() {
  const { next, error } = useSearch({ from: "/signin" });
  const options = useQuery({
    queryKey: ["signin-options"],
    queryFn: () => get("/signin/options"),
    staleTime: Infinity,
  });
  const client = useQueryClient();
  const navigate = useNavigate();
  const signIn = useMutation({
    mutationFn: (by: Means) => prove(by),
    onSuccess: async (me) => {
      client.clear();
      client.setQueryData(["me"], remember(me));
      await navigate({ to: localPath(next) });
    },
  });
  const offer = options.data;
  return (
    <Door title="Sign in" aside="The security of a fleet, from the factory to retirement.">
      {error !== undefined && signIn.isIdle && (
        <Notice tone="bad" title={`${offer?.oidc?.name ?? "Single sign-on"} did not let you in`}>
          Try again. If it stays so, ask an administrator: one of your groups there needs a role here, and the platform's log
          has the reason.
        </Notice>
      )}
      {signIn.isError && <ProblemNotice error={signIn.error} />}
      {options.isError && <ProblemNotice error={options.error} retry={() => void options.refetch()} />}
      {!hasPasskeys() && <Notice tone="info">This browser has no passkeys. Use your password and a code.</Notice>}
      {hasPasskeys() && offer?.passkey !== false && (
        <Button
          size="md"
          fullWidth
          loading={signIn.isPending && signIn.variables.means === "passkey"}
          onClick={() => signIn.mutate({ means: "passkey" })}
        >
          Sign in with a passkey
        </Button>
      )}
      {offer?.oidc != null && (
        <Button
          size="md"
          fullWidth
          variant="default"
          component="a"
          href={`/api/v1/signin/oidc/start?next=${encodeURIComponent(localPath(next))}`}
        >
          Sign in with {offer.oidc.name}
        </Button>
      )}
      {offer?.password !== false && (
        <>
          <span className="or">or</span>
          <PasswordForm isBusy={signIn.isPending} onSubmit={(given) => signIn.mutate({ means: "password", ...given })} />
        </>
      )}
      <p className="small">
        <a href="/recovery">Lost your passkey or authenticator? Use a recovery code.</a>
      </p>
    </Door>
  );
}

async function prove(by: Means): Promise<Me> {
  if (by.means === "password") {
    const { name, password, totp } = by;
    return post("/signin/password", { body: { name, password, totp } });
  }
  const { challenge_id, options } = await post("/signin/passkey/begin");
  return post("/signin/passkey/finish", { body: { challenge_id, credential: await getPasskey(options) } });
}

function PasswordForm({
  isBusy,
  onSubmit,
}: {
  isBusy: boolean;
  onSubmit: (given: { name: string; password: string; totp: string }) => void;
}) {
  const [name, setName] = useState("");
  const [password, setPassword] = useState("");
  const [totp, setTotp] = useState("");
  const submit = (event: SubmitEvent) => {
    event.preventDefault();
    onSubmit({ name, password, totp });
  };
  return (
    <form className="stack" onSubmit={submit}>
      <TextInput label="Name" autoComplete="username" required value={name} onChange={(e) => setName(e.currentTarget.value)} />
      <PasswordInput
        label="Password"
        autoComplete="current-password"
        required
        value={password}
        onChange={(e) => setPassword(e.currentTarget.value)}
      />
      <TextInput
        label="Code from your authenticator app"
        inputMode="numeric"
        autoComplete="one-time-code"
        required
        value={totp}
        onChange={(e) => setTotp(e.currentTarget.value)}
      />
      <Button type="submit" variant="default" loading={isBusy}>
        Sign in with password and code
      </Button>
    </form>
  );
}
