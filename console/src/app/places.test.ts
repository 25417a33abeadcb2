import { QueryClient } from "@tanstack/react-query";
import { createMemoryHistory, linkOptions } from "@tanstack/react-router";
import { describe, expect, it } from "vitest";

import type { FleetEvent } from "../api/live";
import { somebody } from "../testing/people";
import { type Place, railOf, refuse, staleKeys, tabsOf } from "./place";
import { PLACES } from "./places";
import { makeRouter } from "./router";

const router = makeRouter(new QueryClient(), PLACES);
router.update({ ...router.options, history: createMemoryHistory({ initialEntries: ["/"] }) });

describe("every place", () => {
  it.each(PLACES.map((one): [string, Place] => [one.title, one]))("has what it needs: %s", (_, one) => {
    expect(one.routes.length + (one.tabs ?? []).length).toBeGreaterThan(0);
    expect(one.what).toMatch(/^[a-z]/);
    for (const route of one.routes) expect(Object.keys(router.routesById)).toContain(route.id);
    if (one.rail !== undefined) {
      expect(one.routes.map((route) => route.to as string)).toContain(one.rail.to);
      expect(one.rail.icon).toMatch(/^M/);
    }
    for (const rule of one.stale ?? []) {
      expect(rule.on.length * rule.keys.length).toBeGreaterThan(0);
      for (const kind of rule.on) expect(kind).toMatch(/^([a-z_]+\.)?$/);
    }
  });
  it("has addresses and parts of its own", () => {
    const addresses = PLACES.flatMap((one: Place) => one.routes.map((route) => route.to as string));
    const parts = tabsOf(PLACES).map((tab) => tab.part);
    expect([new Set(addresses).size, new Set(parts).size]).toEqual([addresses.length, parts.length]);
  });
  it("is in one list, which says the order", () => {
    const all = somebody(...PLACES.flatMap((one) => one.permission ?? []));
    expect(railOf(PLACES, all).map((one) => one.title)).toEqual(["Today", "Devices", "Releases", "Operators", "Audit log", "Settings"]);
    expect(tabsOf(PLACES).map((tab) => tab.part)).toEqual([
      "overview", "certificates", "firmware", "telemetry", "logs", "video", "commands", "history",
    ]);
  });
  it("is known to links by type", () => {
    const known = linkOptions({ to: "/devices/$id", params: { id: "cam-1" }, search: { part: "logs" } });
    expect(router.buildLocation(known).href).toBe("/devices/cam-1?part=logs");
    // @ts-expect-error there is no such address
    linkOptions({ to: "/nowhere" });
    // @ts-expect-error a device's page needs to know whose
    linkOptions({ to: "/devices/$id" });
    // @ts-expect-error parameters are texts
    linkOptions({ to: "/devices", search: { state: 1 } });
  });
});

describe("whoever opens a page", () => {
  it.each([
    ["/signed/shell/operators", {}, "operator.read"],
    ["/signed/shell/operators", { permission: null }, null],
    ["/signed/shell/operators", { permission: "review.read" }, "review.read"],
    ["/signed/shell/", {}, null],
    ["/signed/activate", {}, null],
  ])("is refused what the page asks for, else what its place does: %s %o", (routeId, page, permission) => {
    expect(refuse(PLACES, routeId, page, somebody("device.read"))?.permission ?? null).toBe(permission);
  });
});

describe("what an event makes stale", () => {
  const keys = (kind: string, device: string | null = null, severity: FleetEvent["severity"] = "notice") =>
    new Set(staleKeys(PLACES, { kind, severity, device }).map((one) => one.key.join(" ")));
  it.each([
    ["access.changed", ["today"]],
    ["attestation.failed", ["today", "devices"]],
    ["break_glass.approved", ["break-glass", "me", "today"]],
    ["certificate.expiring", ["today"]],
    ["device.quarantined", ["today", "devices", "counts"]],
    ["enrollment.completed", ["devices", "counts", "today"]],
    ["grant.given", ["operators", "me", "today"]],
    ["operator.invited", ["operators", "today"]],
    ["release.published", ["releases", "today"]],
    ["review.closed", ["reviews", "today"]],
    ["shipment.imported", ["devices", "counts"]],
    ["token.revoked", ["tokens"]],
    ["session.opened", []],
  ])("%s", (kind, expected) => {
    expect(keys(kind)).toEqual(new Set(expected));
    expect(keys(kind, "cam-1")).toEqual(new Set([...expected, "device cam-1"]));
  });
  it.each(["warning", "critical"] as const)("is what waits for a decision, when it is a %s", (severity) => {
    expect(keys("update.failed", null, severity)).toEqual(new Set(["today"]));
    expect(keys("update.failed", "cam-1", severity)).toEqual(new Set(["today", "device cam-1"]));
  });
  it.each(["notice", "info"] as const)("is nothing to decide, when it is but a %s", (severity) => {
    expect(keys("update.failed", null, severity)).toEqual(new Set());
  });
  it("is asked again once the broker's own book knows who is connected", () => {
    const found = staleKeys(PLACES, { kind: "session.closed", severity: "info", device: "cam-1" });
    expect(found).toContainEqual({ key: ["device", "cam-1"], afterMs: 1500 });
    expect(staleKeys(PLACES, { kind: "device.revoked", severity: "notice", device: "cam-1" }).every((one) => one.afterMs === 0)).toBe(true);
  });
});
