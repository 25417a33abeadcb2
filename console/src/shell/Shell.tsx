/** The frame around every place: the rail, the page, and the command that does the same. */

import { useMantineColorScheme, useComputedColorScheme } from "@mantine/core";
import { Link, Outlet, useMatches, useRouteContext, useRouterState } from "@tanstack/react-router";
import { type ReactNode, useEffect, useRef, useState } from "react";

import { type Badge, type Place, type Refusal, railOf, refuse } from "../app/place";
import { Mark } from "../design/marks";
import { CopyButton, NoPermission, Page } from "../design/parts";
import { useMe } from "../session/me";
import { useSignOut } from "../session/signout";
import { CommandLineProvider, useShownCommand } from "./commandline";
import { Brand, Icon } from "./icons";
import { LiveProvider, useLine } from "./live";

export function Shell(): ReactNode {
  const places = usePlaces();
  return (
    <LiveProvider places={places}>
      <CommandLineProvider>
        <Frame places={places} />
      </CommandLineProvider>
    </LiveProvider>
  );
}

/** The places that the router was made of. */
export function usePlaces(): readonly Place[] {
  return useRouteContext({ from: "__root__", select: (context) => context.places });
}

function Frame({ places }: { places: readonly Place[] }) {
  const path = useRouterState({ select: (state) => state.location.pathname });
  const page = useMatches({ select: (matches) => matches.at(-1) });
  const me = useMe();
  const refusal = page === undefined ? null : refuse(places, page.routeId, page.staticData, me);
  // The menu of a narrow screen belongs to the page it was opened on: going elsewhere closes it.
  const [openedOn, setOpenedOn] = useState<string | null>(null);
  const isOpen = openedOn === path;
  const main = useRef<HTMLElement>(null);
  useEffect(() => {
    main.current?.scrollTo({ top: 0 });
  }, [path]);
  return (
    <div className="shell">
      <a className="skip" href="#content">
        Skip to content
      </a>
      <header className="top">
        <Link to="/" className="brand">
          <Brand /> Fleetward
        </Link>
        <button type="button" aria-expanded={isOpen} aria-controls="rail" onClick={() => setOpenedOn(isOpen ? null : path)}>
          {isOpen ? "Close" : "Menu"}
        </button>
      </header>
      <aside id="rail" aria-label="Fleetward" className={isOpen ? "rail is-open" : "rail"}>
        <Link to="/" className="brand">
          <Brand /> Fleetward
        </Link>
        <Rail places={places} />
        <RailFoot />
      </aside>
      <main id="content" tabIndex={-1} ref={main}>
        {refusal === null ? <Outlet /> : <Refused refusal={refusal} />}
      </main>
      <Strip ofPage={page?.staticData.command} />
    </div>
  );
}

function Refused({ refusal }: { refusal: Refusal }) {
  return (
    <Page title={refusal.place.title}>
      <NoPermission what={refusal.place.what} permission={refusal.permission} />
    </Page>
  );
}

function Rail({ places }: { places: readonly Place[] }) {
  const me = useMe();
  return (
    <nav aria-label="Places">
      <ul>
        {railOf(places, me).map(({ title, rail }) => (
          <li key={rail.to}>
            <Link to={rail.to} activeOptions={{ exact: rail.to === "/" }} activeProps={{ "aria-current": "page" }}>
              <Icon path={rail.icon} />
              {title}
              {rail.badge !== undefined && <Count of={rail.badge} />}
            </Link>
          </li>
        ))}
      </ul>
    </nav>
  );
}

function Count({ of }: { of: Badge }) {
  const count = of.useCount();
  if (count === 0) return null;
  return (
    <span className="count">
      {count}
      <span className="visually-hidden"> {of.what}</span>
    </span>
  );
}

function RailFoot() {
  const me = useMe();
  const signOut = useSignOut();
  const { setColorScheme } = useMantineColorScheme();
  const scheme = useComputedColorScheme("light");
  return (
    <div className="rail-foot">
      <Line />
      <Link to="/me">{me.display_name || me.name}</Link>
      <button type="button" onClick={() => setColorScheme(scheme === "dark" ? "light" : "dark")}>
        {scheme === "dark" ? "Light colours" : "Dark colours"}
      </button>
      <button type="button" onClick={signOut}>
        Sign out
      </button>
    </div>
  );
}

function Line() {
  const state = useLine();
  const shown = {
    live: { shape: "disc", text: "Live" },
    connecting: { shape: "half", text: "Connecting" },
    down: { shape: "cross", text: "Not live" },
  } as const;
  return (
    <span className={`state is-${state}`} role="status" data-line={state}>
      <Mark shape={shown[state].shape} />
      {shown[state].text}
    </span>
  );
}

function Strip({ ofPage = "fleetward --help" }: { ofPage: string | undefined }) {
  const command = useShownCommand() ?? ofPage;
  return (
    <footer className="strip" aria-label="The same on the command line">
      {/* A command may be longer than the screen is wide: the keyboard must reach its end. */}
      {/* eslint-disable-next-line jsx-a11y/no-noninteractive-tabindex */}
      <code tabIndex={0}>{command}</code>
      <CopyButton text={command} label="this screen's command" />
    </footer>
  );
}
