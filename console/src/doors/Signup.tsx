/** The first proof of a new operator: a passkey, or where there is none a password with an authenticator app. */

import { Button, PasswordInput, TextInput } from "@mantine/core";
import { useMutation } from "@tanstack/react-query";
import { type SubmitEvent, useState } from "react";

import type { SignupOffer } from "../api/types";
import { ProblemNotice } from "../design/parts";
import { createPasskey, hasPasskeys } from "../session/webauthn";
import { Qr } from "./Qr";

export interface SignupProof {
  passkey?: Record<string, unknown>;
  password?: string;
  totp_code?: string;
}

export function Signup<T>({
  offer,
  finish,
  onDone,
}: {
  offer: SignupOffer;
  finish: (proof: SignupProof) => Promise<T>;
  onDone: (done: T) => void;
}) {
  const canUsePasskeys = hasPasskeys() && offer.webauthn !== null;
  const [isPassword, setIsPassword] = useState(!canUsePasskeys);
  const sign = useMutation({
    mutationFn: async (proof: SignupProof | null) =>
      finish(proof ?? { passkey: await createPasskey(offer.webauthn) }),
    onSuccess: onDone,
  });
  return (
    <div className="stack wide">
      {sign.isError && <ProblemNotice error={sign.error} />}
      {isPassword ? (
        <PasswordSignup offer={offer} isBusy={sign.isPending} onSubmit={(proof) => sign.mutate(proof)} />
      ) : (
        <div className="stack">
          <p>
            A passkey lives in this device or in your security key. Nobody can phish it, guess it or read it from the
            platform.
          </p>
          <Button size="md" loading={sign.isPending} onClick={() => sign.mutate(null)}>
            Create a passkey
          </Button>
        </div>
      )}
      {canUsePasskeys && (
        <button type="button" className="chip" onClick={() => setIsPassword(!isPassword)}>
          {isPassword ? "Use a passkey instead" : "No authenticator here? Use a password and a code"}
        </button>
      )}
    </div>
  );
}

function PasswordSignup({
  offer,
  isBusy,
  onSubmit,
}: {
  offer: SignupOffer;
  isBusy: boolean;
  onSubmit: (proof: SignupProof) => void;
}) {
  const [password, setPassword] = useState("");
  const [code, setCode] = useState("");
  const submit = (event: SubmitEvent) => {
    event.preventDefault();
    onSubmit({ password, totp_code: code });
  };
  return (
    <form className="stack" onSubmit={submit}>
      <PasswordInput
        label="Password"
        description={`At least ${offer.password_rules.min_length} characters, or shorter and hard to guess. It never expires.`}
        autoComplete="new-password"
        required
        value={password}
        onChange={(e) => setPassword(e.currentTarget.value)}
      />
      <p>Scan this with an authenticator app, then type the code it shows.</p>
      <Qr svg={offer.totp.qr_svg} />
      <p className="small">
        Cannot scan it? Type this secret: <code className="wrap-any">{offer.totp.secret}</code>
      </p>
      <TextInput
        label="Code from your authenticator app"
        inputMode="numeric"
        autoComplete="one-time-code"
        required
        value={code}
        onChange={(e) => setCode(e.currentTarget.value)}
      />
      <Button type="submit" loading={isBusy}>
        Continue
      </Button>
    </form>
  );
}
