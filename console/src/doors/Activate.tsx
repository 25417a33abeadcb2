import { Button, TextInput } from "@mantine/core";
import { useMutation, useQuery } from "@tanstack/react-query";
import { useNavigate, useSearch } from "@tanstack/react-router";
import { type SubmitEvent, useState } from "react";

import { get, post } from "../api/client";
import { Ago } from "../design/Ago";
import { Await, Facts, Notice, ProblemNotice } from "../design/parts";
import { useMe } from "../session/me";
import { Door } from "./Door";

/** Lets a command line that shows a code act as who is signed in here (RFC 8628). */
export default function Activate() {
  const { code } = useSearch({ from: "/signed/activate" });
  return (
    <Door title="Sign in a command line" aside="A command line asks to act with your rights.">
      {code === undefined ? <CodeForm /> : <Decision code={code} />}
    </Door>
  );
}

function CodeForm() {
  const [typed, setTyped] = useState("");
  const navigate = useNavigate();
  const submit = (event: SubmitEvent) => {
    event.preventDefault();
    void navigate({ to: "/activate", search: { code: typed.trim().toUpperCase() } });
  };
  return (
    <form className="stack" onSubmit={submit}>
      <TextInput
        label="The code your terminal shows"
        required
        autoComplete="off"
        value={typed}
        onChange={(e) => setTyped(e.currentTarget.value)}
      />
      <Button type="submit">Continue</Button>
    </form>
  );
}

function Decision({ code }: { code: string }) {
  const found = useQuery({
    queryKey: ["device-code", code],
    queryFn: () => get("/device-codes/{user_code}", { params: { path: { user_code: code } } }),
    retry: false,
  });
  const decide = useMutation({
    mutationFn: (verb: "approve" | "deny") => post(`/device-codes/{user_code}/${verb}`, { params: { path: { user_code: code } } }),
  });
  if (decide.isSuccess) {
    return decide.variables === "approve" ? (
      <Notice tone="good" title="The command line is signed in">
        You can close this page and go back to your terminal.
      </Notice>
    ) : (
      <Notice tone="info" title="Refused">
        If you did not start this yourself, someone tried to use your rights: tell your security officer.
      </Notice>
    );
  }
  return (
    <Await query={found} what="the request">
      {(request) => (
        <div className="stack">
          <Facts
            of={[
              ["Code", <strong key="c" className="mono">{code}</strong>],
              ["Program", request.client],
              ["Asked from", `${request.address}${request.is_near ? ", where you are too" : ""}`],
              ["Asked", <Ago key="a" at={request.created_at} />],
              ["Gets", request.token_name === null ? "a sign-in of its own" : `a token for programs, named ${request.token_name}`],
              ["Works for", request.lifetime],
              ["May do", <Powers key="p" may={request.may} />],
            ]}
          />
          {request.is_near ? (
            <Notice tone="care">Approve only when your own terminal shows this code now.</Notice>
          ) : (
            <Notice tone="bad" title="This was asked from elsewhere">
              Not from the address that you use now. Did somebody send you this code? Then refuse: they would act in your name.
            </Notice>
          )}
          {decide.isError && <ProblemNotice error={decide.error} />}
          <div className="row">
            <Button loading={decide.isPending} onClick={() => decide.mutate("approve")}>
              Approve
            </Button>
            <Button variant="default" disabled={decide.isPending} onClick={() => decide.mutate("deny")}>
              Refuse
            </Button>
          </div>
        </div>
      )}
    </Await>
  );
}

/** What a token may do: what it is limited to, or what the person who approves it may. */
function Powers({ may }: { may: string[] | null }) {
  const me = useMe();
  if (may !== null) return <span className="mono wrap-any">{may.join(" ")}</span>;
  const roles = me.grants.map((one) => `${one.role} in ${one.group === "*" ? "all groups" : one.group}`).join(", ");
  return (
    <span>
      All that you may, as {me.display_name || me.name}: {roles}. Never: change how you sign in, or make tokens.
    </span>
  );
}
