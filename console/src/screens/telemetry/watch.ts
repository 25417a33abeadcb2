import { useQuery, useQueryClient } from "@tanstack/react-query";
import { useEffect } from "react";

import { get } from "../../api/client";
import type { TelemetryRecord } from "../../api/types";

const KEPT = 1000;
type Kind = "telemetry" | "log";

interface WatchItem {
  kind: string;
  stream?: string;
  time?: string;
  device_time?: string | null;
  value?: unknown;
}

/** The last records of a device, and what it sends from now on, without asking again. */
export function useRecords(id: string, kind: Kind) {
  const client = useQueryClient();
  // Not under ["device", id]: events must not fetch it anew, its own line keeps it up to date.
  const queryKey = ["records", id, kind];
  const records = useQuery({
    queryKey,
    queryFn: async () =>
      (await get("/devices/{device_id}/telemetry", { params: { path: { device_id: id }, query: { kind, limit: 500 } } })).records,
  });
  useEffect(() => {
    const source = new EventSource(`/api/v1/devices/${encodeURIComponent(id)}/watch`);
    source.onmessage = (message: MessageEvent<string>) => {
      const item = JSON.parse(message.data) as WatchItem;
      if (item.kind !== kind) return;
      const record = {
        time: item.time ?? new Date().toISOString(),
        device_time: item.device_time ?? null,
        kind,
        stream: item.stream ?? "",
        value: item.value,
      };
      client.setQueryData<TelemetryRecord[]>(["records", id, kind], (before = []) => [...before, record].slice(-KEPT));
    };
    return () => source.close();
  }, [client, id, kind]);
  return records;
}
