/** Asks for a fresh proof of identity when the platform says that an act needs one, then lets it go on. */

import { Button, Modal, PasswordInput, TextInput } from "@mantine/core";
import { useMutation, useQueryClient } from "@tanstack/react-query";
import { type SubmitEvent, useCallback, useEffect, useRef, useState } from "react";

import { onStepUp, post } from "../api/client";
import { ProblemNotice } from "../design/parts";
import { remember, useMe } from "./me";
import { getPasskey } from "./webauthn";

export function StepUp() {
  const [isOpen, setIsOpen] = useState(false);
  const answer = useRef<((isProven: boolean) => void) | null>(null);
  const close = useCallback((isProven: boolean) => {
    answer.current?.(isProven);
    answer.current = null;
    setIsOpen(false);
  }, []);
  useEffect(() => {
    onStepUp(
      () =>
        new Promise((resolve) => {
          answer.current = resolve;
          setIsOpen(true);
        }),
    );
    return () => onStepUp(null);
  }, []);
  return (
    <Modal opened={isOpen} onClose={() => close(false)} title="Is it still you?">
      <Proof onDone={() => close(true)} />
    </Modal>
  );
}

function Proof({ onDone }: { onDone: () => void }) {
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
      <p>This act cannot be taken back easily. Confirm it is you; the proof holds for five minutes.</p>
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
