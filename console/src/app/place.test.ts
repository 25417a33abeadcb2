import { MantineProvider } from "@mantine/core";
import { QueryClient, QueryClientProvider } from "@tanstack/react-query";
import { createMemoryHistory, createRoute, Link, RouterProvider } from "@tanstack/react-router";
import { createElement, lazy } from "react";
import { renderToString } from "react-dom/server";
import { describe, expect, it } from "vitest";

import type { Device, Me } from "../api/types";
import { somebody } from "../testing/people";
import { type Place, place, staleKeys } from "./place";
import { PLACES } from "./places";
import { shell } from "./roots";
import { makeRouter } from "./router";

const now = "2026-06-01T12:00:00Z";
const device: Device = {
  id: "cam-1", model: "camera", group: "default", state: "active", state_reason: "attested", state_changed_at: now,
  tier: "tpm", hardware_kind: null, hardware_fingerprint: null, firmware_version: null, created_at: now,
};

/** A room that a later capability brings: a page, a part of a device's page, something that events change. */
const segments = place({
  title: "Segments",
  what: "the segments",
  permission: "segment.read",
  rail: { to: "/segments", icon: "M3 9h12", badge: { useCount: () => 3, what: "to look at" } },
  routes: [
    createRoute({
      getParentRoute: () => shell,
      path: "/segments",
      staticData: { command: "fleetward segment list" },
      component: () => createElement(Link, { to: "/segments" }, "the page of segments"),
    }),
  ],
  tabs: [
    {
      part: "segments",
      name: "Segments",
      permission: "segment.read",
      command: (id) => `fleetward segment show ${id}`,
      shows: lazy(() => Promise.resolve({ default: () => "its segments" })),
    },
  ],
  stale: [
    { on: ["segment."], keys: [["segments"], ["segments", "$device"]], againAfterMs: 500 },
  ],
});
const WITH_SEGMENTS: readonly Place[] = [...PLACES, segments];

async function draw(address: string, me: Me): Promise<string> {
  const client = new QueryClient({ defaultOptions: { queries: { enabled: false } } });
  client.setQueryData(["me"], me);
  client.setQueryData(["today"], { cards: [] });
  client.setQueryData(["device", device.id, "self"], device);
  const router = makeRouter(client, WITH_SEGMENTS);
  router.update({ ...router.options, history: createMemoryHistory({ initialEntries: [address] }) });
  await router.load();
  const page = createElement(QueryClientProvider, { client }, createElement(RouterProvider, { router }));
  return renderToString(createElement(MantineProvider, null, page));
}

describe("a place that a later room brings", () => {
  const knows = somebody("segment.read", "device.read");
  it("is opened, found in the rail and on the page of a device", async () => {
    const page = await draw("/segments", knows);
    expect(page).toContain("the page of segments");
    expect(page).toMatch(/aria-current="page"[^>]*>.*Segments.*3.*to look at/);
    expect(page).toContain("fleetward segment list");
    expect(await draw("/devices/cam-1", knows)).toContain("part=segments");
  });
  it("says what events make stale", () => {
    const about = (device: string | null) => staleKeys(WITH_SEGMENTS, { kind: "segment.changed", severity: "info", device });
    expect(about(null)).toEqual([{ key: ["segments"], afterMs: 0 }, { key: ["segments"], afterMs: 500 }]);
    expect(about("cam-1")).toEqual([
      { key: ["device", "cam-1"], afterMs: 0 },
      { key: ["segments"], afterMs: 0 }, { key: ["segments"], afterMs: 500 },
      { key: ["segments", "cam-1"], afterMs: 0 }, { key: ["segments", "cam-1"], afterMs: 500 },
    ]);
  });
});

describe("somebody without the permission", () => {
  const lacks = somebody("device.read");
  it("does not see the place", async () => {
    const page = await draw("/devices/cam-1", lacks);
    expect(page).toContain("Parts of this device");
    expect(page).not.toContain("Segments");
    expect(page).not.toContain("part=segments");
  });
  it("does not open it", async () => {
    const page = await draw("/segments", lacks);
    expect(page).toContain("You may not see the segments");
    expect(page).toContain("segment.read");
    expect(page).not.toContain("the page of segments");
  });
  it("does not open its part of a device", async () => {
    const page = await draw("/devices/cam-1?part=segments", lacks);
    expect(page).toContain("You may not see its segments");
  });
  it("needs it in the group of the device", async () => {
    const elsewhere = { ...lacks, permissions: { ...lacks.permissions, "segment.read": ["doors"] } };
    expect(await draw("/devices/cam-1", elsewhere)).not.toContain("part=segments");
    const here = { ...lacks, permissions: { ...lacks.permissions, "segment.read": ["default"] } };
    expect(await draw("/devices/cam-1", here)).toContain("part=segments");
  });
});
