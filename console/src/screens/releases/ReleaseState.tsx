import { type Shape, State, type Tone } from "../../design/marks";

const STATES: Record<string, [Tone, Shape]> = {
  pending: ["care", "half"],
  publishing: ["info", "half"],
  published: ["good", "disc"],
  withdrawn: ["soft", "dash"],
  rejected: ["bad", "cross"],
};

export function ReleaseState({ state }: { state: string }) {
  const [tone, shape] = STATES[state] ?? ["soft", "ring"];
  return (
    <State tone={tone} shape={shape}>
      {state === "pending" ? "waits for approval" : state}
    </State>
  );
}
