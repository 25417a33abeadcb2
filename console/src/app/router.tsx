import type { QueryClient } from "@tanstack/react-query";
import {
  createRootRouteWithContext,
  createRoute,
  createRouter,
  lazyRouteComponent,
  Outlet,
  redirect,
} from "@tanstack/react-router";

import { Failed, NotFound } from "./failed";
import { parseSearch, renderSearch } from "./search";
import { meQuery } from "../session/me";
import { StepUp } from "../session/StepUp";
import { Shell } from "../shell/Shell";

const root = createRootRouteWithContext<{ client: QueryClient }>()({
  component: Outlet,
  errorComponent: Failed,
  notFoundComponent: NotFound,
});

const text = (value: unknown): string | undefined => (typeof value === "string" && value !== "" ? value : undefined);

/** Return the named texts of an address's query; whatever else it holds is dropped. */
function texts<const K extends string>(...names: K[]) {
  return (search: Record<string, unknown>): Partial<Record<K, string>> =>
    Object.fromEntries(names.map((name) => [name, text(search[name])]).filter(([, value]) => value !== undefined)) as Partial<
      Record<K, string>
    >;
}

const open = (path: "/setup" | "/invitation" | "/recovery", load: () => Promise<{ default: () => React.ReactNode }>) =>
  createRoute({ getParentRoute: () => root, path, component: lazyRouteComponent(load) });

const signIn = createRoute({
  getParentRoute: () => root,
  path: "/signin",
  validateSearch: texts("next", "error"),
  component: lazyRouteComponent(() => import("../doors/SignIn")),
});

/** Everything below asks for a session; whoever has none is sent to sign in and then back. */
const signed = createRoute({
  getParentRoute: () => root,
  id: "signed",
  beforeLoad: async ({ context, location }) => {
    const me = await context.client.query({ ...meQuery, staleTime: "static" });
    if (me === null) throw redirect({ to: "/signin", search: { next: location.href } });
    if (me.restricted && location.pathname !== "/me") throw redirect({ to: "/me" });
  },
  component: () => (
    <>
      <Outlet />
      <StepUp />
    </>
  ),
});

const activate = createRoute({
  getParentRoute: () => signed,
  path: "/activate",
  validateSearch: texts("code"),
  component: lazyRouteComponent(() => import("../doors/Activate")),
});

const shell = createRoute({ getParentRoute: () => signed, id: "shell", component: Shell });

const today = createRoute({
  getParentRoute: () => shell,
  path: "/",
  component: lazyRouteComponent(() => import("../screens/today/Today")),
});
const firstDevice = createRoute({
  getParentRoute: () => shell,
  path: "/first-device",
  component: lazyRouteComponent(() => import("../screens/today/FirstDevice")),
});
const devices = createRoute({
  getParentRoute: () => shell,
  path: "/devices",
  validateSearch: texts("search", "model", "group", "state", "firmware", "sort"),
  component: lazyRouteComponent(() => import("../screens/devices/Devices")),
});
const device = createRoute({
  getParentRoute: () => shell,
  path: "/devices/$id",
  validateSearch: texts("part"),
  component: lazyRouteComponent(() => import("../screens/device/Device")),
});
const releases = createRoute({
  getParentRoute: () => shell,
  path: "/releases",
  component: lazyRouteComponent(() => import("../screens/releases/Releases")),
});
const release = createRoute({
  getParentRoute: () => shell,
  path: "/releases/$model/$version",
  component: lazyRouteComponent(() => import("../screens/releases/Release")),
});
const operators = createRoute({
  getParentRoute: () => shell,
  path: "/operators",
  validateSearch: texts("part"),
  component: lazyRouteComponent(() => import("../screens/operators/Operators")),
});
const operator = createRoute({
  getParentRoute: () => shell,
  path: "/operators/$name",
  component: lazyRouteComponent(() => import("../screens/operators/Operator")),
});
const review = createRoute({
  getParentRoute: () => shell,
  path: "/reviews/$id",
  component: lazyRouteComponent(() => import("../screens/operators/Review")),
});
const audit = createRoute({
  getParentRoute: () => shell,
  path: "/audit",
  validateSearch: texts("actor", "device", "action", "since", "until"),
  component: lazyRouteComponent(() => import("../screens/audit/Audit")),
});
const settings = createRoute({
  getParentRoute: () => shell,
  path: "/settings",
  component: lazyRouteComponent(() => import("../screens/settings/Settings")),
});
const me = createRoute({
  getParentRoute: () => shell,
  path: "/me",
  component: lazyRouteComponent(() => import("../screens/me/Me")),
});

const tree = root.addChildren([
  open("/setup", () => import("../doors/Setup")),
  open("/invitation", () => import("../doors/Invitation")),
  open("/recovery", () => import("../doors/Recovery")),
  signIn,
  signed.addChildren([
    activate,
    shell.addChildren([
      today, firstDevice, devices, device, releases, release, operators, operator, review, audit, settings, me,
    ]),
  ]),
]);

export function makeRouter(client: QueryClient) {
  return createRouter({
    routeTree: tree,
    context: { client },
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
