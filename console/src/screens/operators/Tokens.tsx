import { Button, Modal, Select, TextInput } from "@mantine/core";
import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { type SubmitEvent, useState } from "react";

import { post, remove } from "../../api/client";
import type { Token } from "../../api/types";
import { Ago } from "../../design/Ago";
import { Await, Command, Empty, Notice, ProblemNotice, Sheet, TableFrame } from "../../design/parts";
import { useMe } from "../../session/me";
import { quote } from "../../shell/commandline";
import { tokensQuery } from "./queries";

const LIFETIMES = ["24h", "7d", "30d", "90d"];

export function Tokens() {
  const tokens = useQuery(tokensQuery);
  const [isOpen, setIsOpen] = useState(false);
  return (
    <Sheet title="API tokens" aside={<Button onClick={() => setIsOpen(true)}>Create a token</Button>} bare>
      <Await query={tokens} what="tokens">
        {(list) =>
          list.length === 0 ? (
            <Empty title="No tokens">
              <p className="soft">Programs act with tokens: limited to the rights you name, and gone after 90 days at most.</p>
            </Empty>
          ) : (
            <Table tokens={list} />
          )
        }
      </Await>
      <Modal opened={isOpen} onClose={() => setIsOpen(false)} title="Create a token">
        <TokenForm />
      </Modal>
    </Sheet>
  );
}

function Table({ tokens }: { tokens: Token[] }) {
  const client = useQueryClient();
  const revoke = useMutation({
    mutationFn: (id: string) => remove("/tokens/{token_id}", { params: { path: { token_id: id } } }),
    onSuccess: () => client.invalidateQueries({ queryKey: ["tokens"] }),
  });
  return (
    <TableFrame>
      {revoke.isError && <ProblemNotice error={revoke.error} />}
      <table>
        <thead>
          <tr>
            <th scope="col">Name</th>
            <th scope="col">May</th>
            <th scope="col">Last used</th>
            <th scope="col">Ends</th>
            <th scope="col">
              <span className="visually-hidden">Revoke</span>
            </th>
          </tr>
        </thead>
        <tbody>
          {tokens.map((one) => (
            <tr key={one.id}>
              <td>{one.name}</td>
              <td className="mono wrap-any">{one.scopes?.join(" ") ?? "everything you may"}</td>
              <td className="soft">
                <Ago at={one.last_used_at} fallback="never" />
              </td>
              <td className="soft">
                <Ago at={one.expires_at} />
              </td>
              <td>
                <Button variant="default" onClick={() => revoke.mutate(one.id)} aria-label={`Revoke ${one.name}`}>
                  Revoke
                </Button>
              </td>
            </tr>
          ))}
        </tbody>
      </table>
    </TableFrame>
  );
}

function TokenForm() {
  const me = useMe();
  const [name, setName] = useState("");
  const [lifetime, setLifetime] = useState("30d");
  const [scopes, setScopes] = useState<ReadonlySet<string>>(new Set());
  const client = useQueryClient();
  const create = useMutation({
    mutationFn: () => post("/tokens", { body: { name, scopes: [...scopes], expires_in: lifetime } }),
    onSuccess: () => client.invalidateQueries({ queryKey: ["tokens"] }),
  });
  if (create.data !== undefined) {
    return (
      <div className="stack">
        <Notice tone="good" title="The token, shown this once">
          Give it to the program as FLEETWARD_TOKEN, never on a command line.
        </Notice>
        <Command label="the token">{`export FLEETWARD_TOKEN=${create.data.token}`}</Command>
      </div>
    );
  }
  const submit = (event: SubmitEvent) => {
    event.preventDefault();
    create.mutate();
  };
  const toggle = (scope: string) => {
    const next = new Set(scopes);
    if (!next.delete(scope)) next.add(scope);
    setScopes(next);
  };
  const named = [...scopes].map((scope) => ` --scope ${scope}`).join("");
  return (
    <form className="stack" onSubmit={submit}>
      {create.isError && <ProblemNotice error={create.error} />}
      <TextInput label="Name" description="What uses it" required data-autofocus value={name} onChange={(e) => setName(e.currentTarget.value)} />
      <Select label="Ends after" data={LIFETIMES} value={lifetime} allowDeselect={false} onChange={(value) => setLifetime(value ?? "30d")} />
      <fieldset className="scopes">
        <legend>What it may do, of what you may</legend>
        {Object.keys(me.permissions)
          .sort()
          .map((scope) => (
            <label key={scope}>
              <input type="checkbox" checked={scopes.has(scope)} onChange={() => toggle(scope)} /> {scope}
            </label>
          ))}
      </fieldset>
      <Command label="the same command">{`fleetward token create ${quote(name || "NAME")}${named} --expires-in ${lifetime}`}</Command>
      <Button type="submit" loading={create.isPending} disabled={scopes.size === 0}>
        Create the token
      </Button>
    </form>
  );
}
