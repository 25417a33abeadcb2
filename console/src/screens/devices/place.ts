import { createRoute, lazyRouteComponent } from "@tanstack/react-router";

import { place } from "../../app/place";
import { shell, texts } from "../../app/roots";

export const devices = place({
  title: "Devices",
  what: "devices",
  permission: "device.read",
  rail: { to: "/devices", icon: "M2.5 3.500h13v4h-13zM2.5 10.500h13v4h-13zM5 5.500h.01M5 12.500h.01" },
  routes: [
    createRoute({
      getParentRoute: () => shell,
      path: "/devices",
      validateSearch: texts("search", "model", "group", "state", "firmware", "sort"),
      staticData: { command: "fleetward device list" },
      component: lazyRouteComponent(() => import("./Devices")),
    }),
  ],
  stale: [
    { on: ["attestation."], keys: [["devices"]] },
    { on: ["device.", "enrollment.", "shipment."], keys: [["devices"], ["counts"]] },
  ],
});
