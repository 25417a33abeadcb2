/** One event stream for all tabs of this browser: one tab holds the line and passes on what comes. */

export interface FleetEvent {
  id: number;
  time: string;
  kind: string;
  device: string | null;
  severity: "notice" | "warning" | "critical" | "info";
  message: string;
  details: Record<string, unknown>;
  actor: string;
}

export type LineState = "connecting" | "live" | "down";

type Said = { event: FleetEvent } | { state: LineState } | { ask: true };

/** Follow the platform's events until the returned function is called. */
export function follow(onEvent: (event: FleetEvent) => void, onState: (state: LineState) => void): () => void {
  const stopped = new AbortController();
  const channel = new BroadcastChannel("fleetward-events");
  let state: LineState = "connecting";
  let isHolder = false;

  const hear = (said: Said) => {
    if ("event" in said) onEvent(said.event);
    else if ("state" in said) onState(said.state);
    else if (isHolder) channel.postMessage({ state } satisfies Said);
  };
  const say = (said: Said) => {
    if ("state" in said) state = said.state;
    channel.postMessage(said);
    hear(said);
  };
  channel.onmessage = (message: MessageEvent<Said>) => hear(message.data);
  channel.postMessage({ ask: true } satisfies Said);

  void navigator.locks
    .request("fleetward-events", { signal: stopped.signal }, async () => {
      isHolder = true;
      await hold(say, stopped.signal);
    })
    .catch((error: unknown) => {
      if (!stopped.signal.aborted) throw error;
    });
  return () => {
    stopped.abort();
    channel.close();
  };
}

async function hold(say: (said: Said) => void, signal: AbortSignal): Promise<void> {
  const source = new EventSource("/api/v1/events/stream?after=-1");
  source.onopen = () => say({ state: "live" });
  source.onerror = () => say({ state: source.readyState === EventSource.CLOSED ? "down" : "connecting" });
  source.onmessage = (message: MessageEvent<string>) => say({ event: JSON.parse(message.data) as FleetEvent });
  await new Promise<void>((resolve) => {
    signal.addEventListener("abort", () => resolve(), { once: true });
  });
  source.close();
}
