import { createRoute, lazyRouteComponent } from "@tanstack/react-router";

import { place } from "../../app/place";
import { shell, texts } from "../../app/roots";

export const operators = place({
  title: "Operators",
  what: "operators",
  permission: "operator.read",
  rail: { to: "/operators", icon: "M9 8.500a3 3 0 1 0 0-6 3 3 0 0 0 0 6zM3 15.500c.8-3 3-4.5 6-4.500s5.2 1.5 6 4.5" },
  routes: [
    createRoute({
      getParentRoute: () => shell,
      path: "/operators",
      validateSearch: texts("part"),
      // Everybody has tokens of their own here, and who may not see people may see reviews.
      staticData: { command: "fleetward operator list", permission: null },
      component: lazyRouteComponent(() => import("./Operators")),
    }),
    createRoute({
      getParentRoute: () => shell,
      path: "/operators/$name",
      component: lazyRouteComponent(() => import("./Operator")),
    }),
    createRoute({
      getParentRoute: () => shell,
      path: "/reviews/$id",
      staticData: { permission: "review.read" },
      component: lazyRouteComponent(() => import("./Review")),
    }),
  ],
  stale: [
    { on: ["break_glass."], keys: [["break-glass"]] },
    { on: ["grant.", "operator."], keys: [["operators"]] },
    { on: ["review."], keys: [["reviews"]] },
    { on: ["token."], keys: [["tokens"]] },
  ],
});
