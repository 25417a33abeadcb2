/** Asks for a fresh proof of identity when the platform says that acts need one, then lets them go on. */

import { Button, Modal, PasswordInput, TextInput } from "@mantine/core";
import { useMutation, useQueryClient } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";
import { type ReactNode, type SubmitEvent, useEffect, useState } from "react";

import { platform, post } from "../api/client";
import { Notice, ProblemNotice } from "../design/parts";
import { makeAsking } from "./asking";
import { canProve, remember, useMe } from "./me";
import { getPasskey } from "./webauthn";

export function StepUp(): ReactNode {
  const [isOpen, setIsOpen] = useState(false);
  const [asking] = useState(() => makeAsking(setIsOpen));
  // Whose session is over proves nothing any more: whatever waits is refused as this goes.
  useEffect(() => asking.listen(platform), [asking]);
  return (
    <Modal opened={isOpen} onClose={() => asking.settle(false)} title="Is it still you?">
      <Means onDone={() => asking.settle(true)} onCancel={() => asking.settle(false)} />
    </Modal>
  );
}

function Means({ onDone, onCancel }: { onDone: () => void; onCancel: () => void }) {
  const me = useMe();
  if (canProve(me)) {
    return (
      <div className="stack">
        <p>This act cannot be taken back easily. Confirm it is you; the proof holds for five minutes.</p>
        <Proof onDone={onDone} />
      </div>
    );
  }
  return (
    <div className="stack">
      <Notice tone="care" title="You have nothing here to confirm it with">
        {me.restricted ? "Register" : "Sign in again, then within five minutes register"} a passkey, or a password with an
        authenticator app, on your own page. From then on you can confirm acts like this one.
      </Notice>
      <Link to="/me" onClick={onCancel}>
        Go to your own page
      </Link>
    </div>
  );
}

/** Takes the two factors that somebody has here. */
export function Proof({ onDone }: { onDone: () => void }) {
  const { factors } = useMe();
  const client = useQueryClient();
  const [password, setPassword] = useState("");
  const [totp, setTotp] = useState("");
  const prove = useMutation({
    mutationFn: async (means: "passkey" | "password") => {
      if (means === "password") return post("/me/step-up/finish", { body: { password, totp } });
      const { challenge_id, options } = await post("/me/step-up/begin");
      const credential = await getPasskey(options);
      return post("/me/step-up/finish", { body: { challenge_id, credential } });
    },
    onSuccess: (me) => {
      client.setQueryData(["me"], remember(me));
      onDone();
    },
  });
  const submit = (event: SubmitEvent) => {
    event.preventDefault();
    prove.mutate("password");
  };
  return (
    <div className="stack">
      {prove.isError && <ProblemNotice error={prove.error} />}
      {factors.passkeys > 0 && (
        <Button onClick={() => prove.mutate("passkey")} loading={prove.isPending} data-autofocus>
          Confirm with a passkey
        </Button>
      )}
      {factors.password && factors.totp && (
        <form className="stack" onSubmit={submit}>
          <PasswordInput
            label="Password"
            autoComplete="current-password"
            value={password}
            onChange={(event) => setPassword(event.currentTarget.value)}
          />
          <TextInput
            label="Code from your authenticator app"
            inputMode="numeric"
            autoComplete="one-time-code"
            value={totp}
            onChange={(event) => setTotp(event.currentTarget.value)}
          />
          <Button type="submit" variant="default" loading={prove.isPending}>
            Confirm with password and code
          </Button>
        </form>
      )}
    </div>
  );
}
