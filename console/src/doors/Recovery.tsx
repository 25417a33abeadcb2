import { Button, TextInput } from "@mantine/core";
import { useMutation, useQueryClient } from "@tanstack/react-query";
import { useNavigate } from "@tanstack/react-router";
import { type SubmitEvent, useState } from "react";

import { post } from "../api/client";
import { ProblemNotice } from "../design/parts";
import { Door } from "./Door";

export default function Recovery() {
  const [name, setName] = useState("");
  const [code, setCode] = useState("");
  const client = useQueryClient();
  const navigate = useNavigate();
  const recover = useMutation({
    mutationFn: () => post("/signin/recovery", { body: { name, code } }),
    onSuccess: async () => {
      client.clear();
      await navigate({ to: "/me" });
    },
  });
  const submit = (event: SubmitEvent) => {
    event.preventDefault();
    recover.mutate();
  };
  return (
    <Door title="Use a recovery code" aside="Everybody who administers this fleet is told that you did.">
      <p>
        A recovery code works once. It lets you register a new passkey or authenticator app and nothing else; then sign in
        with that.
      </p>
      {recover.isError && <ProblemNotice error={recover.error} />}
      <form className="stack" onSubmit={submit}>
        <TextInput label="Name" autoComplete="username" required value={name} onChange={(e) => setName(e.currentTarget.value)} />
        <TextInput label="Recovery code" autoComplete="off" required value={code} onChange={(e) => setCode(e.currentTarget.value)} />
        <Button type="submit" loading={recover.isPending}>
          Continue
        </Button>
      </form>
      <p className="small">
        No code left? An administrator runs <code>fleetward operator recover NAME</code>.
      </p>
    </Door>
  );
}
