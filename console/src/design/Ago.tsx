import { useSyncExternalStore } from "react";

import { renderExact, renderRelative } from "./time";

const TICK_MS = 10_000;
// One timer for all times on the page.
const listeners = new Set<() => void>();
let now = new Date();
setInterval(() => {
  now = new Date();
  for (const tell of listeners) tell();
}, TICK_MS);

function subscribe(tell: () => void): () => void {
  listeners.add(tell);
  return () => listeners.delete(tell);
}

export function useNow(): Date {
  return useSyncExternalStore(subscribe, () => now);
}

export function Ago({ at, fallback = "–" }: { at: string | null | undefined; fallback?: string }) {
  const current = useNow();
  if (at == null) return <>{fallback}</>;
  const when = new Date(at);
  // The page's clock ticks every ten seconds: what happened since its last tick is now, not in the future.
  const lead = when.getTime() - current.getTime();
  const shown = lead > 0 && lead < TICK_MS ? when : current;
  return (
    <time dateTime={at} title={renderExact(when)}>
      {renderRelative(when, shown)}
    </time>
  );
}
