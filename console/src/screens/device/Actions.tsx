import { Button, Modal, TextInput } from "@mantine/core";
import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { type SubmitEvent, useState } from "react";

import { post } from "../../api/client";
import type { Device } from "../../api/types";
import { Command, Notice, ProblemNotice } from "../../design/parts";
import { capital } from "../../design/time";
import { can, useMe } from "../../session/me";
import { quote } from "../../shell/commandline";
import { presenceQuery } from "./queries";

type Verb = "quarantine" | "release" | "revoke" | "retire";

const FROM: Record<Verb, string[]> = {
  quarantine: ["active", "enrolled"],
  release: ["quarantined"],
  revoke: ["registered", "enrolled", "active", "quarantined"],
  retire: ["registered", "enrolled", "active", "quarantined", "revoked"],
};
const VERBS: Verb[] = ["release", "quarantine", "revoke", "retire"];

/** What can be done to the device in its state, each shown with its effect first. */
export function Actions({ device }: { device: Device }) {
  const me = useMe();
  const [verb, setVerb] = useState<Verb | null>(null);
  const possible = VERBS.filter((one) => FROM[one].includes(device.state) && can(me, `device.${one}`, device.group));
  return (
    <>
      {possible.map((one) => (
        <Button key={one} variant={one === "release" ? "filled" : "default"} onClick={() => setVerb(one)}>
          {capital(one)}
        </Button>
      ))}
      <Modal opened={verb !== null} onClose={() => setVerb(null)} title={verb === null ? "" : `${capital(verb)} ${device.id}?`}>
        {verb !== null && <ActionForm verb={verb} device={device} onDone={() => setVerb(null)} />}
      </Modal>
    </>
  );
}

function ActionForm({ verb, device, onDone }: { verb: Verb; device: Device; onDone: () => void }) {
  const [reason, setReason] = useState("");
  const client = useQueryClient();
  const act = useMutation({
    mutationFn: () =>
      post(`/devices/{device_id}/${verb}`, {
        params: { path: { device_id: device.id } },
        body: { reason: reason || "by an operator" },
      }),
    onSuccess: async (changed) => {
      client.setQueryData(["device", device.id, "self"], changed);
      await client.invalidateQueries({ queryKey: ["device", device.id] });
      onDone();
    },
  });
  const submit = (event: SubmitEvent) => {
    event.preventDefault();
    act.mutate();
  };
  const isFinal = verb === "revoke" || verb === "retire";
  return (
    <form className="stack" onSubmit={submit}>
      <Effect verb={verb} device={device} />
      <TextInput
        label="Reason"
        description="Goes into the audit log"
        required={isFinal}
        maxLength={200}
        data-autofocus
        value={reason}
        onChange={(event) => setReason(event.currentTarget.value)}
      />
      <Command label="the same command">
        {`fleetward device ${verb} ${quote(device.id)} --reason ${quote(reason || "by an operator")}`}
      </Command>
      {act.isError && <ProblemNotice error={act.error} />}
      <Button type="submit" color={isFinal ? "danger" : "chart"} loading={act.isPending}>
        {capital(verb)} {device.id}
      </Button>
    </form>
  );
}

function Effect({ verb, device }: { verb: Verb; device: Device }) {
  const { data } = useQuery(presenceQuery(device.id));
  const session = data?.connected === true ? "Its open session ends within a second." : "It has no open session.";
  switch (verb) {
    case "quarantine":
      return (
        <Notice tone="care" title={`${device.state} becomes quarantined`}>
          {session} It may not connect, stream or update until it is released. Its certificates stay.
        </Notice>
      );
    case "release":
      return (
        <Notice tone="info" title="quarantined becomes active">
          It may open a session again at once, if certificate and appraisal are good.
        </Notice>
      );
    case "revoke":
      return (
        <Notice tone="bad" title={`${device.state} becomes revoked, for good`}>
          {session} Its certificates stand in the revocation list from now on. It can only come back as a new device.
        </Notice>
      );
    case "retire":
      return (
        <Notice tone="bad" title={`${device.state} becomes retired, for good`}>
          {session} Its certificates are revoked; its record is kept.
        </Notice>
      );
  }
}
