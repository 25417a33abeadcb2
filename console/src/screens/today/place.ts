import { createRoute, lazyRouteComponent } from "@tanstack/react-router";

import { place } from "../../app/place";
import { shell } from "../../app/roots";
import { useOpenDecisions } from "./queries";

export const today = place({
  title: "Today",
  what: "what waits for you",
  permission: null,
  rail: { to: "/", icon: "M3 9h12M5 5h8M6 13h6", badge: { useCount: useOpenDecisions, what: "to decide" } },
  routes: [
    createRoute({
      getParentRoute: () => shell,
      path: "/",
      staticData: { command: "fleetward today" },
      component: lazyRouteComponent(() => import("./Today")),
    }),
    createRoute({
      getParentRoute: () => shell,
      path: "/first-device",
      staticData: { command: "fleetward device add cam-1 --model camera" },
      component: lazyRouteComponent(() => import("./FirstDevice")),
    }),
  ],
  stale: [
    {
      on: [
        "access.", "attestation.", "break_glass.", "certificate.", "device.", "enrollment.", "grant.", "operator.", "release.",
        "review.",
      ],
      keys: [["today"]],
    },
    // An alert waits for a decision, whatever it is about.
    { on: [""], severities: ["warning", "critical"], keys: [["today"]] },
  ],
});
