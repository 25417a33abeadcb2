import { createRoute, lazyRouteComponent } from "@tanstack/react-router";

import { place } from "../../app/place";
import { shell, texts } from "../../app/roots";

export const audit = place({
  title: "Audit log",
  what: "the audit log",
  permission: "audit.read",
  rail: { to: "/audit", icon: "M5 2.500h8v13H5zM7.5 6h3M7.5 9h3M7.5 12h3" },
  routes: [
    createRoute({
      getParentRoute: () => shell,
      path: "/audit",
      validateSearch: texts("actor", "device", "action", "since", "until"),
      staticData: { command: "fleetward audit search" },
      component: lazyRouteComponent(() => import("./Audit")),
    }),
  ],
});
