/** What a place is: a folder of `screens/` that says itself where it is found and who may go there.
 *
 * The router, the rail, the parts of a device's page and what an event makes stale are all derived from one list of
 * places; a new capability adds a folder and a line in `places.ts`.
 */

import type { AnyRoute } from "@tanstack/react-router";
import type { ComponentType, LazyExoticComponent } from "react";

import type { FleetEvent } from "../api/live";
import type { Device, Me } from "../api/types";
import { can } from "../session/me";

export interface Place<Routes extends readonly unknown[] = readonly AnyRoute[]> {
  /** Names it in the rail and as a heading. */
  title: string;
  /** Names it in a sentence: "You may not see the audit log". */
  what: string;
  /** Without it the place is neither shown nor opened; null where everybody who is signed in may come. */
  permission: string | null;
  /** Its entry in the rail; a place without one is reached from others. */
  rail?: { to: string; icon: string; badge?: Badge };
  /** Its pages, below `shell`. */
  routes: Routes;
  /** Parts it adds to the page of a device. */
  tabs?: readonly DeviceTab[];
  /** Which events change the answers to its queries. */
  stale?: readonly StaleRule[];
}

/** A number beside the name in the rail, such as how much waits to be decided. */
export interface Badge {
  useCount: () => number;
  what: string;
}

export interface DeviceTab {
  /** Names it in the address: `?part=video`. */
  part: string;
  name: string;
  permission: string;
  /** The command line's word for it. */
  command: (id: string) => string;
  shows: LazyExoticComponent<ComponentType<{ device: Device }>>;
}

type Key = readonly string[];

export interface StaleRule {
  /** Prefixes of the kinds of events that change an answer; `""` begins every kind. */
  on: readonly string[];
  /** Only events as grave as one of these; all where it is not said. */
  severities?: readonly FleetEvent["severity"][];
  /** What the keys of the queries begin with; `$device` stands for the device that an event is about. */
  keys: readonly Key[];
  /** Ask once more after so long: what an event tells of may be known elsewhere a moment later. */
  againAfterMs?: number;
}

/** Return a place as it is given, its routes typed one by one: expecting `AnyRoute` here would make each of them just that. */
export function place<const Routes extends readonly unknown[]>(given: Place<Routes>): Place<Routes> {
  return given;
}

/** The routes of places, each with its own type: what makes addresses and their parameters known to links. */
export type RoutesOf<Places extends readonly Place[]> = Places extends readonly [
  infer First extends Place,
  ...infer Rest extends readonly Place[],
]
  ? [...First["routes"], ...RoutesOf<Rest>]
  : [];

export function routesOf<const Places extends readonly Place[]>(places: Places): RoutesOf<Places> {
  return places.flatMap((one) => [...one.routes]) as RoutesOf<Places>;
}

/** What a page says of itself beside its place. */
export interface PageData {
  /** The command that does what the page does, where it needs to know nothing for it. */
  command?: string;
  /** What the page asks for instead of its place's permission; null where its parts ask themselves. */
  permission?: string | null;
}

export interface Refusal {
  place: Place;
  permission: string;
}

/** Return why somebody may not open a page; null where they may. */
export function refuse(places: readonly Place[], routeId: string, page: PageData, me: Me): Refusal | null {
  const found = places.find((one) => one.routes.some((route) => route.id === routeId));
  if (found === undefined) return null;
  const permission = page.permission === undefined ? found.permission : page.permission;
  return permission === null || can(me, permission) ? null : { place: found, permission };
}

export type RailEntry = Place & { rail: NonNullable<Place["rail"]> };

/** Return the places that somebody's rail shows, in the order of the list. */
export function railOf(places: readonly Place[], me: Me): RailEntry[] {
  return places.filter(
    (one): one is RailEntry => one.rail !== undefined && (one.permission === null || can(me, one.permission)),
  );
}

/** Return the parts of a device's page, whoever asks. */
export function tabsOf(places: readonly Place[]): DeviceTab[] {
  return places.flatMap((one) => one.tabs ?? []);
}

export interface Stale {
  key: Key;
  afterMs: number;
}

/** Return the keys of the queries whose answers an event may have changed, and when to ask again. */
export function staleKeys(places: readonly Place[], event: Pick<FleetEvent, "kind" | "severity" | "device">): Stale[] {
  const rules = places.flatMap((one) => one.stale ?? []).filter((rule) => hears(rule, event));
  return rules.flatMap(({ keys, againAfterMs }) =>
    keys
      .map((key) => fill(key, event.device))
      .filter((key) => key !== null)
      .flatMap((key) => [{ key, afterMs: 0 }, ...(againAfterMs === undefined ? [] : [{ key, afterMs: againAfterMs }])]),
  );
}

function hears({ on, severities }: StaleRule, event: Pick<FleetEvent, "kind" | "severity">): boolean {
  return on.some((kind) => event.kind.startsWith(kind)) && (severities?.includes(event.severity) ?? true);
}

function fill(key: Key, device: string | null): Key | null {
  if (device === null) return key.includes("$device") ? null : key;
  return key.map((part) => (part === "$device" ? device : part));
}
