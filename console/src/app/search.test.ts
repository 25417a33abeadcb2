import { describe, expect, it } from "vitest";

import { parseSearch, renderSearch } from "./search";

describe("an address's query", () => {
  it("keeps a version that looks like a number", () => {
    expect(parseSearch(renderSearch({ firmware: "1.10" }))).toEqual({ firmware: "1.10" });
  });
  it("carries what needs escaping", () => {
    expect(parseSearch(renderSearch({ search: "a&b=c d+é" }))).toEqual({ search: "a&b=c d+é" });
  });
  it("leaves out what is empty", () => {
    expect(renderSearch({ state: "", model: undefined })).toBe("");
  });
});
