/** Turns records of telemetry into lines to plot: every number in them, at whatever depth, is one line. */

import type { TelemetryRecord } from "../../api/types";

export interface Series {
  name: string;
  times: number[];
  values: number[];
}

const MAX_SERIES = 24;

/** Return the numbers in a value by path, such as `cpu.load`. */
export function findNumbers(value: unknown, path = ""): [string, number][] {
  if (typeof value === "number" && Number.isFinite(value)) return [[path, value]];
  if (typeof value !== "object" || value === null || Array.isArray(value)) return [];
  return Object.entries(value).flatMap(([name, inner]) => findNumbers(inner, path === "" ? name : `${path}.${name}`));
}

/** Return one series per stream and number, oldest first; the device's own time where it told one. */
export function findSeries(records: TelemetryRecord[]): Series[] {
  const found = new Map<string, [number, number][]>();
  for (const record of records) {
    const at = Date.parse(record.device_time ?? record.time) / 1000;
    for (const [path, value] of findNumbers(record.value)) {
      const name = [record.stream, path].filter((part) => part !== "").join(" ");
      const points = found.get(name) ?? [];
      points.push([at, value]);
      found.set(name, points);
    }
  }
  return [...found]
    .slice(0, MAX_SERIES)
    .map(([name, points]) => {
      points.sort(([a], [b]) => a - b);
      return { name, times: points.map(([at]) => at), values: points.map(([, value]) => value) };
    });
}
