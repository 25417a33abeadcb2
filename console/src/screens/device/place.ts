import { createRoute, lazyRouteComponent } from "@tanstack/react-router";
import { lazy } from "react";

import { place } from "../../app/place";
import { shell, texts } from "../../app/roots";
import { quote } from "../../shell/commandline";

export const device = place({
  title: "Device",
  what: "devices",
  permission: "device.read",
  routes: [
    createRoute({
      getParentRoute: () => shell,
      path: "/devices/$id",
      validateSearch: texts("part"),
      component: lazyRouteComponent(() => import("./Device")),
    }),
  ],
  tabs: [
    {
      part: "overview",
      name: "Overview",
      permission: "device.read",
      command: (id) => `fleetward device show ${quote(id)}`,
      shows: lazy(() => import("./Overview")),
    },
  ],
  stale: [
    // Whatever is told about a device may show on its page, in whoever's part.
    { on: [""], keys: [["device", "$device"]] },
    // Who is connected is known to the broker's own book, which may learn of it a moment after the event.
    { on: ["session."], keys: [["device", "$device"]], againAfterMs: 1500 },
  ],
});
