import { useQueryClient } from "@tanstack/react-query";
import { createContext, type ReactNode, useContext, useEffect, useState } from "react";

import { type FleetEvent, follow, type LineState } from "../api/live";
import { type Place, staleKeys } from "../app/place";

const Context = createContext<LineState>("connecting");
const listeners = new Set<(event: FleetEvent) => void>();

/** Holds the line to the platform's events, and has queries ask again that an event makes stale. */
export function LiveProvider({ places, children }: { places: readonly Place[]; children: ReactNode }) {
  const client = useQueryClient();
  const [state, setState] = useState<LineState>("connecting");
  useEffect(() => {
    const waiting = new Set<string>();
    const later = new Set<ReturnType<typeof setTimeout>>();
    let timer: ReturnType<typeof setTimeout> | undefined;
    // A shipment or a bulk act brings thousands of events in a second: ask once for all of them.
    const flush = () => {
      timer = undefined;
      for (const key of waiting) void client.invalidateQueries({ queryKey: JSON.parse(key) as string[] });
      waiting.clear();
    };
    const onEvent = (event: FleetEvent) => {
      for (const { key, afterMs } of staleKeys(places, event)) {
        if (afterMs === 0) {
          waiting.add(JSON.stringify(key));
          continue;
        }
        const again = setTimeout(() => {
          later.delete(again);
          void client.invalidateQueries({ queryKey: key });
        }, afterMs);
        later.add(again);
      }
      timer ??= setTimeout(flush, 300);
      for (const tell of listeners) tell(event);
    };
    const stop = follow(onEvent, (next) => {
      setState(next);
      if (next === "live") void client.invalidateQueries({ refetchType: "active" });
    });
    return () => {
      clearTimeout(timer);
      for (const again of later) clearTimeout(again);
      stop();
    };
  }, [client, places]);
  return <Context value={state}>{children}</Context>;
}

export function useLine(): LineState {
  return useContext(Context);
}

/** Call `tell` for each event while the component is shown; `tell` must be stable. */
export function useEvents(tell: (event: FleetEvent) => void): void {
  useEffect(() => {
    listeners.add(tell);
    return () => {
      listeners.delete(tell);
    };
  }, [tell]);
}
