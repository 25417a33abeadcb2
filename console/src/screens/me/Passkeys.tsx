import { Button, TextInput } from "@mantine/core";
import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { type SubmitEvent, useState } from "react";

import { post, remove } from "../../api/client";
import type { Passkey } from "../../api/types";
import { Ago } from "../../design/Ago";
import { Await, Empty, ProblemNotice, Sheet } from "../../design/parts";
import { createPasskey, hasPasskeys } from "../../session/webauthn";
import { passkeysQuery } from "./queries";

export function Passkeys() {
  const passkeys = useQuery(passkeysQuery);
  return (
    <Sheet title="Passkeys" bare>
      <Await query={passkeys} what="your passkeys">
        {(list) => (list.length === 0 ? <Empty title="No passkey yet" /> : <Table passkeys={list} />)}
      </Await>
      {hasPasskeys() && (
        <footer>
          <AddForm />
        </footer>
      )}
    </Sheet>
  );
}

function Table({ passkeys }: { passkeys: Passkey[] }) {
  const client = useQueryClient();
  const drop = useMutation({
    mutationFn: (id: string) => remove("/me/passkeys/{passkey_id}", { params: { path: { passkey_id: id } } }),
    onSuccess: () => client.invalidateQueries({ queryKey: ["me"] }),
  });
  return (
    <>
      {drop.isError && <ProblemNotice error={drop.error} />}
      <table>
        <thead>
          <tr>
            <th scope="col">Name</th>
            <th scope="col">Added</th>
            <th scope="col">Last used</th>
            <th scope="col">
              <span className="visually-hidden">Remove</span>
            </th>
          </tr>
        </thead>
        <tbody>
          {passkeys.map((one) => (
            <tr key={one.id}>
              <td>{one.label}</td>
              <td className="soft">
                <Ago at={one.created_at} />
              </td>
              <td className="soft">
                <Ago at={one.last_used_at} fallback="never" />
              </td>
              <td>
                <Button variant="default" onClick={() => drop.mutate(one.id)} aria-label={`Remove ${one.label}`}>
                  Remove
                </Button>
              </td>
            </tr>
          ))}
        </tbody>
      </table>
    </>
  );
}

function AddForm() {
  const [name, setName] = useState("");
  const client = useQueryClient();
  const add = useMutation({
    mutationFn: async () => {
      const begun = await post("/me/passkeys/begin");
      const credential = await createPasskey(begun.options);
      return post("/me/passkeys/finish", { body: { challenge_id: begun.challenge_id, label: name, credential } });
    },
    onSuccess: async () => {
      setName("");
      await client.invalidateQueries({ queryKey: ["me"] });
    },
  });
  const submit = (event: SubmitEvent) => {
    event.preventDefault();
    add.mutate();
  };
  return (
    <form className="row" onSubmit={submit}>
      {add.isError && <ProblemNotice error={add.error} />}
      <TextInput
        className="grow"
        aria-label="Name of the new passkey"
        placeholder="Name, such as: key in the safe"
        required
        value={name}
        onChange={(e) => setName(e.currentTarget.value)}
      />
      <Button type="submit" loading={add.isPending}>
        Add a passkey
      </Button>
    </form>
  );
}
