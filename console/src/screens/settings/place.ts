import { createRoute, lazyRouteComponent } from "@tanstack/react-router";

import { place } from "../../app/place";
import { shell } from "../../app/roots";

export const settings = place({
  title: "Settings",
  what: "the settings",
  permission: null,
  rail: { to: "/settings", icon: "M3 5h7m3 0h2M3 13h2m3 0h7M11.5 3v4M6.5 11v4" },
  routes: [
    createRoute({
      getParentRoute: () => shell,
      path: "/settings",
      staticData: { command: "fleetward checklist" },
      component: lazyRouteComponent(() => import("./Settings")),
    }),
  ],
});
