/** What all pages stand in: the root, what asks for a session, and the frame with the rail. */

import type { QueryClient } from "@tanstack/react-query";
import { createRootRouteWithContext, createRoute, Outlet, redirect } from "@tanstack/react-router";

import { meQuery } from "../session/me";
import { StepUp } from "../session/StepUp";
import { Shell } from "../shell/Shell";
import { Failed, NotFound } from "./failed";
import type { PageData, Place } from "./place";

export interface RouterContext {
  client: QueryClient;
  places: readonly Place[];
}

export const root = createRootRouteWithContext<RouterContext>()({
  component: Outlet,
  errorComponent: Failed,
  notFoundComponent: NotFound,
});

/** Everything below asks for a session; whoever has none is sent to sign in and then back. */
export const signed = createRoute({
  getParentRoute: () => root,
  id: "signed",
  beforeLoad: async ({ context, location }) => {
    const me = await context.client.query({ ...meQuery, staleTime: "static" });
    if (me === null) throw redirect({ to: "/signin", search: { next: location.href } });
    if (me.restricted && location.pathname !== "/me") throw redirect({ to: "/me" });
  },
  component: Signed,
});

/** The frame that places stand in. */
export const shell = createRoute({ getParentRoute: () => signed, id: "shell", component: Shell });

function Signed(): React.ReactNode {
  return (
    <>
      <Outlet />
      <StepUp />
    </>
  );
}

const text = (value: unknown): string | undefined => (typeof value === "string" && value !== "" ? value : undefined);

/** Return the named texts of an address's query; whatever else it holds is dropped. */
export function texts<const K extends string>(...names: K[]) {
  return (search: Record<string, unknown>): Partial<Record<K, string>> =>
    Object.fromEntries(names.map((name) => [name, text(search[name])]).filter(([, value]) => value !== undefined)) as Partial<
      Record<K, string>
    >;
}

declare module "@tanstack/react-router" {
  // eslint-disable-next-line @typescript-eslint/no-empty-object-type -- what our pages say of themselves
  interface StaticDataRouteOption extends PageData {}
}
