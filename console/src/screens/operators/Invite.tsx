import { Button, Modal, Select, TextInput } from "@mantine/core";
import { useMutation, useQueryClient } from "@tanstack/react-query";
import { type SubmitEvent, useState } from "react";

import { post } from "../../api/client";
import type { Role } from "../../api/types";
import { Command, Notice, ProblemNotice } from "../../design/parts";
import { renderExact } from "../../design/time";
import { quote } from "../../shell/commandline";
import { ROLES } from "./roles";

export function InviteButton() {
  const [isOpen, setIsOpen] = useState(false);
  return (
    <>
      <Button onClick={() => setIsOpen(true)}>Invite an operator</Button>
      <Modal opened={isOpen} onClose={() => setIsOpen(false)} title="Invite an operator">
        <InviteForm />
      </Modal>
    </>
  );
}

function InviteForm() {
  const [name, setName] = useState("");
  const [displayName, setDisplayName] = useState("");
  const [role, setRole] = useState<Role>("viewer");
  const [group, setGroup] = useState("*");
  const client = useQueryClient();
  const invite = useMutation({
    mutationFn: () =>
      post("/operators/invitations", {
        body: { name, display_name: displayName || name, grants: [{ role, group }] },
      }),
    onSuccess: () => client.invalidateQueries({ queryKey: ["operators"] }),
  });
  if (invite.data !== undefined) return <Invited invitation={invite.data} />;
  const submit = (event: SubmitEvent) => {
    event.preventDefault();
    invite.mutate();
  };
  const where = group === "*" ? "" : `@${group}`;
  return (
    <form className="stack" onSubmit={submit}>
      {invite.isError && <ProblemNotice error={invite.error} />}
      <TextInput
        label="Name"
        description="Lower case, as it stands in the audit log"
        required
        data-autofocus
        value={name}
        onChange={(e) => setName(e.currentTarget.value)}
      />
      <TextInput label="Display name" value={displayName} onChange={(e) => setDisplayName(e.currentTarget.value)} />
      <Select
        label="Role"
        data={ROLES.map((one) => ({ value: one, label: one }))}
        value={role}
        allowDeselect={false}
        onChange={(value) => setRole(value ?? "viewer")}
      />
      <TextInput
        label="Device group"
        description="* for all groups and fleet-wide acts"
        required
        value={group}
        onChange={(e) => setGroup(e.currentTarget.value)}
      />
      <Command label="the same command">
        {`fleetward operator invite ${quote(name || "NAME")} --role ${quote(`${role}${where}`)}`}
      </Command>
      <Button type="submit" loading={invite.isPending}>
        Invite
      </Button>
    </form>
  );
}

function Invited({ invitation }: { invitation: { name: string; link: string; expires_at: string } }) {
  return (
    <div className="stack">
      <Notice tone="good" title={`${invitation.name} is invited`}>
        Send them this link over a channel you trust. It works once, until {renderExact(new Date(invitation.expires_at))}, and
        is shown only now.
      </Notice>
      <Command label="the invitation link">{invitation.link}</Command>
    </div>
  );
}
