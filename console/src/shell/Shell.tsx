import { useMantineColorScheme, useComputedColorScheme } from "@mantine/core";
import { useQuery } from "@tanstack/react-query";
import { Link, Outlet, useRouterState } from "@tanstack/react-router";
import { useEffect, useRef, useState } from "react";

import { todayQuery } from "../api/queries";
import { CopyButton } from "../design/parts";
import { Mark } from "../design/marks";
import { can, useMe } from "../session/me";
import { useSignOut } from "../session/signout";
import { CommandLineProvider, useShownCommand } from "./commandline";
import { Brand, Icon, type IconName } from "./icons";
import { LiveProvider, useLine } from "./live";

const PLACES: { to: string; icon: IconName; name: string; permission: string | null }[] = [
  { to: "/", icon: "today", name: "Today", permission: null },
  { to: "/devices", icon: "devices", name: "Devices", permission: "device.read" },
  { to: "/releases", icon: "releases", name: "Releases", permission: "release.read" },
  { to: "/operators", icon: "operators", name: "Operators", permission: "operator.read" },
  { to: "/audit", icon: "audit", name: "Audit log", permission: "audit.read" },
  { to: "/settings", icon: "settings", name: "Settings", permission: null },
];

export function Shell() {
  return (
    <LiveProvider>
      <CommandLineProvider>
        <Frame />
      </CommandLineProvider>
    </LiveProvider>
  );
}

function Frame() {
  const path = useRouterState({ select: (state) => state.location.pathname });
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
        <Places />
        <RailFoot />
      </aside>
      <main id="content" tabIndex={-1} ref={main}>
        <Outlet />
      </main>
      <Strip />
    </div>
  );
}

function Places() {
  const me = useMe();
  const today = useQuery(todayQuery);
  const open = today.data?.cards.length ?? 0;
  return (
    <nav aria-label="Places">
      <ul>
        {PLACES.filter((place) => place.permission === null || can(me, place.permission)).map((place) => (
          <li key={place.to}>
            <Link
              to={place.to}
              activeOptions={{ exact: place.to === "/" }}
              activeProps={{ "aria-current": "page" }}
            >
              <Icon name={place.icon} />
              {place.name}
              {place.to === "/" && open > 0 && (
                <span className="count">
                  {open}
                  <span className="visually-hidden"> to decide</span>
                </span>
              )}
            </Link>
          </li>
        ))}
      </ul>
    </nav>
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

function Strip() {
  const command = useShownCommand();
  return (
    <footer className="strip" aria-label="The same on the command line">
      {/* A command may be longer than the screen is wide: the keyboard must reach its end. */}
      {/* eslint-disable-next-line jsx-a11y/no-noninteractive-tabindex */}
      <code tabIndex={0}>{command}</code>
      <CopyButton text={command} label="this screen's command" />
    </footer>
  );
}
