import { describe, expect, it } from "vitest";

import { untilNext } from "./closing";

const now = Date.parse("2026-06-01T12:00:00Z");

describe("when to ask for the gates again", () => {
  it.each([
    [null, false],
    ["2026-06-01T13:00:00Z", 3_601_000],
    ["2026-06-01T12:00:00.001Z", 1_001],
    ["2026-06-01T12:00:00Z", 1_000],
    // A platform whose clock is ahead of ours: once a second, not at once and for ever.
    ["2026-06-01T11:00:00Z", 1_000],
    ["2027-06-01T12:00:00Z", 2 ** 31 - 1],
  ])("closes at %s", (closesAt, expected) => {
    expect(untilNext(closesAt, now)).toBe(expected);
  });
});
