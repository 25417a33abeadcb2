import { Link } from "@tanstack/react-router";
import { TextInput } from "@mantine/core";
import { useCallback, useState } from "react";

import type { FleetEvent } from "../../api/live";
import { Mark } from "../../design/marks";
import { Command, Notice, Page, Sheet } from "../../design/parts";
import { quote } from "../../shell/commandline";
import { useEvents } from "../../shell/live";
import "./today.css";

export default function FirstDevice() {
  return (
    <Page title="Add your first device" lead="Step 4 of 4. Run these where the platform runs; this page follows along.">
      <Sheet title="From a model to a session">
        <FirstDeviceSteps />
      </Sheet>
      <p>
        <Link to="/">Skip this, go to today</Link>
      </p>
    </Page>
  );
}

const SEEN = {
  "device.registered": "registered",
  "enrollment.completed": "enrolled",
  "session.opened": "connected",
} as const;
type Step = (typeof SEEN)[keyof typeof SEEN];

/** The commands that bring a first device, each marked as done when the platform says so. */
export function FirstDeviceSteps() {
  const [name, setName] = useState("sensor-1");
  const [seen, setSeen] = useState<Partial<Record<Step, string>>>({});
  useEvents(
    useCallback((event: FleetEvent) => {
      const step = SEEN[event.kind as keyof typeof SEEN] as Step | undefined;
      const { device } = event;
      if (step !== undefined && device !== null) setSeen((before) => ({ ...before, [step]: device }));
    }, []),
  );
  const device = quote(name || "sensor-1");
  return (
    <div className="stack wide">
      <TextInput
        label="What shall it be called?"
        value={name}
        onChange={(e) => setName(e.currentTarget.value)}
        maw={320}
      />
      <ol className="steps">
        <StepItem isDone={seen.registered !== undefined} title="Say what kind of device it is, then register it">
          <Command label="the model command">fleetward model add sensor --attestation none</Command>
          <Command label="the add command">{`fleetward device add ${device} --model sensor`}</Command>
          <p className="soft">It prints a claim that works once: the device proves with it that it is the one you mean.</p>
        </StepItem>
        <StepItem isDone={seen.enrolled !== undefined} title="Let the device enroll and connect">
          <Command label="the agent command">fleetward agent run --config agent.toml</Command>
          <p className="soft">Any EST client does as well. No device at hand? The demo brings one with a simulated chip:</p>
          <Command label="the demo command">fleetward demo camera</Command>
        </StepItem>
        <StepItem isDone={seen.connected !== undefined} title="It appears here, live" />
      </ol>
      {seen.connected !== undefined && (
        <Notice tone="good" title={`${seen.connected} is connected`}>
          <Link to="/devices/$id" params={{ id: seen.connected }}>
            Open its page
          </Link>
        </Notice>
      )}
      {seen.connected === undefined && seen.registered !== undefined && (
        <Notice tone="info" title={`${seen.registered} is registered`}>
          <Link to="/devices/$id" params={{ id: seen.registered }}>
            Open its page
          </Link>
        </Notice>
      )}
    </div>
  );
}

function StepItem({ isDone, title, children }: { isDone: boolean; title: string; children?: React.ReactNode }) {
  return (
    <li className={isDone ? "tone-good" : undefined} data-done={isDone}>
      <Mark shape={isDone ? "check" : "ring"} />
      <div>
        <h3>
          {title}
          {isDone && <span className="visually-hidden">, done</span>}
        </h3>
        {children}
      </div>
    </li>
  );
}
