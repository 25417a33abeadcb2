import { describe, expect, it } from "vitest";

import { localPath } from "./next";

describe("where to go after signing in", () => {
  it("is a path of ours", () => {
    expect(localPath("/devices?state=active")).toBe("/devices?state=active");
  });
  it.each([undefined, "", "https://evil.test/", "//evil.test/x", "/\\evil.test", "/\t/evil.test", "javascript:alert(1)", "devices"])(
    "is the front page for %s",
    (next) => {
      expect(localPath(next)).toBe("/");
    },
  );
});
