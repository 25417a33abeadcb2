import { Button, TextInput } from "@mantine/core";
import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { type ReactNode, type SubmitEvent, useState } from "react";

import { post } from "../../api/client";
import type { Device, DeviceCommand } from "../../api/types";
import { Ago } from "../../design/Ago";
import { type Shape, State, type Tone } from "../../design/marks";
import { Await, Command, Empty, ProblemNotice, Sheet, TableFrame } from "../../design/parts";
import { useCan } from "../../session/me";
import { quote } from "../../shell/commandline";
import { commandsQuery } from "./queries";
import { parseArguments } from "./arguments";
import "./commands.css";

export default function Commands({ device }: { device: Device }): ReactNode {
  const mayRun = useCan("command.run", device.group);
  const commands = useQuery({
    ...commandsQuery(device.id),
    // A result tells itself by no event: ask for it while one is awaited, and only then.
    refetchInterval: (query) =>
      query.state.data?.some((one) => one.state === "queued" || one.state === "sent") === true ? 1000 : false,
  });
  return (
    <>
      {mayRun && (
        <Sheet title="Send a command">
          <CommandForm device={device} />
        </Sheet>
      )}
      <Sheet title="Commands" bare>
        <Await query={commands} what="its commands" permission="command.read">
          {(list) => (list.length === 0 ? <Empty title="None sent yet" /> : <Table commands={list} />)}
        </Await>
      </Sheet>
    </>
  );
}

function CommandForm({ device }: { device: Device }) {
  const [name, setName] = useState("ping");
  const [text, setText] = useState("");
  const client = useQueryClient();
  const args = parseArguments(text);
  const run = useMutation({
    mutationFn: () =>
      post("/devices/{device_id}/commands", { params: { path: { device_id: device.id } }, body: { name, args: args ?? {}, timeout_s: 30 } }),
    onSuccess: () => client.invalidateQueries({ queryKey: ["device", device.id, "commands"] }),
  });
  const submit = (event: SubmitEvent) => {
    event.preventDefault();
    run.mutate();
  };
  const same = `fleetward device command ${quote(device.id)} ${quote(name || "ping")} ${text}`.trim();
  return (
    <form className="stack" onSubmit={submit}>
      {run.isError && <ProblemNotice error={run.error} />}
      <div className="command-form">
        <TextInput label="Command" required maxLength={32} value={name} onChange={(e) => setName(e.currentTarget.value)} />
        <TextInput
          label="Arguments"
          placeholder="key=value key=value"
          error={args === null ? "Each is one key=value" : undefined}
          value={text}
          onChange={(e) => setText(e.currentTarget.value)}
        />
        <Button type="submit" loading={run.isPending} disabled={args === null}>
          Send
        </Button>
      </div>
      <Command label="the same command">{same}</Command>
    </form>
  );
}

const STATES: Record<string, [Tone, Shape]> = {
  queued: ["soft", "ring"],
  sent: ["info", "half"],
  done: ["good", "check"],
  failed: ["bad", "cross"],
  timed_out: ["care", "clock"],
};

function Table({ commands }: { commands: DeviceCommand[] }) {
  return (
    <TableFrame>
      <table>
        <thead>
          <tr>
            <th scope="col">State</th>
            <th scope="col">Command</th>
            <th scope="col">Result</th>
            <th scope="col">By</th>
            <th scope="col">When</th>
          </tr>
        </thead>
        <tbody>
          {commands.map((one) => {
            const [tone, shape] = STATES[one.state] ?? ["soft", "ring"];
            return (
              <tr key={one.id}>
                <td>
                  <State tone={tone} shape={shape}>
                    {one.state.replace("_", " ")}
                  </State>
                </td>
                <td>
                  <span className="mono">{one.name}</span>
                  {Object.keys(one.args).length > 0 && <code className="soft"> {JSON.stringify(one.args)}</code>}
                </td>
                <td className="wrap-any">
                  {one.error ?? (one.result == null ? "–" : <code>{JSON.stringify(one.result)}</code>)}
                </td>
                <td>{one.actor.replace("operator:", "")}</td>
                <td className="soft">
                  <Ago at={one.created_at} />
                </td>
              </tr>
            );
          })}
        </tbody>
      </table>
    </TableFrame>
  );
}
