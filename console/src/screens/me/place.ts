import { createRoute, lazyRouteComponent } from "@tanstack/react-router";

import { place } from "../../app/place";
import { shell } from "../../app/roots";

export const me = place({
  title: "Your account",
  what: "your account",
  permission: null,
  routes: [
    createRoute({
      getParentRoute: () => shell,
      path: "/me",
      staticData: { command: "fleetward whoami" },
      component: lazyRouteComponent(() => import("./Me")),
    }),
  ],
  // What somebody may do changes with their grants, and for as long as the glass is broken.
  stale: [{ on: ["break_glass.", "grant."], keys: [["me"]] }],
});
