import { Button, PasswordInput, TextInput } from "@mantine/core";
import { useMutation, useQueryClient } from "@tanstack/react-query";
import { type SubmitEvent, useState } from "react";

import { post } from "../../api/client";
import { Notice, ProblemNotice, Sheet } from "../../design/parts";
import { Qr } from "../../doors/Qr";
import { useMe } from "../../session/me";

export function PasswordAndTotp() {
  const { factors } = useMe();
  return (
    <Sheet title="Password and code">
      <div className="stack wide">
        <p className="soft">For browsers without an authenticator. Neither opens a session without the other.</p>
        <PasswordForm isSet={factors.password} />
        <TotpForm isSet={factors.totp} />
      </div>
    </Sheet>
  );
}

function PasswordForm({ isSet }: { isSet: boolean }) {
  const [password, setPassword] = useState("");
  const client = useQueryClient();
  const save = useMutation({
    mutationFn: () => post("/me/password", { body: { password } }),
    onSuccess: async () => {
      setPassword("");
      await client.invalidateQueries({ queryKey: ["me"] });
    },
  });
  const submit = (event: SubmitEvent) => {
    event.preventDefault();
    save.mutate();
  };
  return (
    <form className="stack" onSubmit={submit}>
      {save.isError && <ProblemNotice error={save.error} />}
      {save.isSuccess && <Notice tone="good">The password is set.</Notice>}
      <PasswordInput
        label={isSet ? "New password" : "Password"}
        description="At least 15 characters, or shorter and hard to guess. It never expires."
        autoComplete="new-password"
        required
        value={password}
        onChange={(e) => setPassword(e.currentTarget.value)}
      />
      <div className="row">
        <Button type="submit" variant="default" loading={save.isPending}>
          {isSet ? "Change the password" : "Set a password"}
        </Button>
      </div>
    </form>
  );
}

function TotpForm({ isSet }: { isSet: boolean }) {
  const [code, setCode] = useState("");
  const client = useQueryClient();
  const begin = useMutation({ mutationFn: () => post("/me/totp/begin") });
  const finish = useMutation({
    mutationFn: () => post("/me/totp/finish", { body: { challenge_id: begin.data?.challenge_id ?? "", code } }),
    onSuccess: async () => {
      begin.reset();
      setCode("");
      await client.invalidateQueries({ queryKey: ["me"] });
    },
  });
  if (begin.data === undefined) {
    return (
      <div className="stack">
        {begin.isError && <ProblemNotice error={begin.error} />}
        {finish.isSuccess && <Notice tone="good">The authenticator app is registered.</Notice>}
        <div className="row">
          <Button variant="default" loading={begin.isPending} onClick={() => begin.mutate()}>
            {isSet ? "Replace the authenticator app" : "Register an authenticator app"}
          </Button>
        </div>
      </div>
    );
  }
  const submit = (event: SubmitEvent) => {
    event.preventDefault();
    finish.mutate();
  };
  return (
    <form className="stack" onSubmit={submit}>
      {finish.isError && <ProblemNotice error={finish.error} />}
      <Qr svg={begin.data.totp.qr_svg} />
      <p className="small">
        Cannot scan it? Type this secret: <code className="wrap-any">{begin.data.totp.secret}</code>
      </p>
      <TextInput
        label="Code it shows"
        inputMode="numeric"
        autoComplete="one-time-code"
        required
        value={code}
        onChange={(e) => setCode(e.currentTarget.value)}
      />
      <div className="row">
        <Button type="submit" loading={finish.isPending}>
          Register it
        </Button>
      </div>
    </form>
  );
}
