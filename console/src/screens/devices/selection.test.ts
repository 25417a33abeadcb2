import { describe, expect, it } from "vitest";

import { countSelected, emptySelection, isSelected, toggle } from "./selection";

describe("a selection of devices", () => {
  it("holds what was chosen, and not what was chosen twice", () => {
    const one = toggle(toggle(toggle(emptySelection, "a"), "b"), "a");
    expect([isSelected(one, "a"), isSelected(one, "b"), countSelected(one, 100)]).toEqual([false, true, 1]);
  });
  it("counts every match when all are meant", () => {
    expect(countSelected({ all: true }, 100_000)).toBe(100_000);
    expect(isSelected({ all: true }, "never-loaded")).toBe(true);
  });
  it("never silently keeps 99,999 when one is taken from all", () => {
    expect(countSelected(toggle({ all: true }, "a"), 100_000)).toBe(0);
  });
});
