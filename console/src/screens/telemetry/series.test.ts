import { describe, expect, it } from "vitest";

import { findNumbers, findSeries } from "./series";

const record = (time: string, value: unknown, device_time: string | null = null, stream = "climate") => ({
  time, device_time, kind: "telemetry", stream, value,
});

describe("series of telemetry", () => {
  it("finds every number at its path, and nothing else", () => {
    expect(findNumbers({ cpu: { load: 0.5, name: "x" }, ok: true, list: [1] })).toEqual([["cpu.load", 0.5]]);
    expect(findNumbers(21)).toEqual([["", 21]]);
  });
  it("orders what a device handed in late by the device's own time", () => {
    const [line] = findSeries([
      record("2026-06-01T12:00:01Z", 2),
      record("2026-06-01T12:00:02Z", 1, "2026-06-01T11:00:00Z"),
    ]);
    expect(line?.values).toEqual([1, 2]);
  });
  it("keeps streams apart", () => {
    const found = findSeries([record("2026-06-01T12:00:00Z", { t: 1 }), record("2026-06-01T12:00:00Z", { t: 2 }, null, "door")]);
    expect(found.map((one) => one.name)).toEqual(["climate t", "door t"]);
  });
});
