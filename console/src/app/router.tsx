import type { QueryClient } from "@tanstack/react-query";
import { createRoute, createRouter, lazyRouteComponent } from "@tanstack/react-router";

import { Failed } from "./failed";
import { type Place, routesOf } from "./place";
import type { PLACES } from "./places";
import { root, shell, signed, texts } from "./roots";
import { parseSearch, renderSearch } from "./search";

const open = (path: "/setup" | "/invitation" | "/recovery", load: () => Promise<{ default: () => React.ReactNode }>) =>
  createRoute({ getParentRoute: () => root, path, component: lazyRouteComponent(load) });

const signIn = createRoute({
  getParentRoute: () => root,
  path: "/signin",
  validateSearch: texts("next", "error"),
  component: lazyRouteComponent(() => import("../doors/SignIn")),
});

const activate = createRoute({
  getParentRoute: () => signed,
  path: "/activate",
  validateSearch: texts("code"),
  component: lazyRouteComponent(() => import("../doors/Activate")),
});

/** Return the router of places; links are typed by the console's own. */
export function makeRouter(client: QueryClient, places: readonly Place[]) {
  const routes = routesOf(places as typeof PLACES);
  return createRouter({
    routeTree: root.addChildren([
      open("/setup", () => import("../doors/Setup")),
      open("/invitation", () => import("../doors/Invitation")),
      open("/recovery", () => import("../doors/Recovery")),
      signIn,
      signed.addChildren([activate, shell.addChildren(routes)]),
    ]),
    context: { client, places },
    parseSearch,
    stringifySearch: renderSearch,
    defaultPreload: "intent",
    defaultErrorComponent: Failed,
    scrollRestoration: false,
  });
}

declare module "@tanstack/react-router" {
  interface Register {
    router: ReturnType<typeof makeRouter>;
  }
}
