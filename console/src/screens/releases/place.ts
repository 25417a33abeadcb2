import { createRoute, lazyRouteComponent } from "@tanstack/react-router";
import { lazy } from "react";

import { place } from "../../app/place";
import { shell } from "../../app/roots";
import { quote } from "../../shell/commandline";

export const releases = place({
  title: "Releases",
  what: "releases",
  permission: "release.read",
  rail: { to: "/releases", icon: "M9 2v9m0 0L5.5 7.500M9 11l3.5-3.500M3 15h12" },
  routes: [
    createRoute({
      getParentRoute: () => shell,
      path: "/releases",
      staticData: { command: "fleetward release list" },
      component: lazyRouteComponent(() => import("./Releases")),
    }),
    createRoute({
      getParentRoute: () => shell,
      path: "/releases/$model/$version",
      component: lazyRouteComponent(() => import("./Release")),
    }),
  ],
  tabs: [
    {
      part: "firmware",
      name: "Firmware",
      permission: "device.read",
      command: (id) => `fleetward device firmware ${quote(id)}`,
      shows: lazy(() => import("./Firmware")),
    },
  ],
  stale: [{ on: ["release."], keys: [["releases"]] }],
});
