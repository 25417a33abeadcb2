import { Link, useSearch } from "@tanstack/react-router";

import { NoPermission, Page } from "../../design/parts";
import { can, useMe } from "../../session/me";
import { useCommand } from "../../shell/commandline";
import { BreakGlassPart } from "./BreakGlass";
import { InviteButton } from "./Invite";
import { People } from "./People";
import { Reviews } from "./Reviews";
import { Roles } from "./Roles";
import { Tokens } from "./Tokens";
import "./operators.css";

const PARTS = [
  { part: "people", name: "People", permission: "operator.read", command: "operator list", shows: People },
  { part: "roles", name: "Roles", permission: "operator.read", command: "operator list", shows: Roles },
  { part: "tokens", name: "Tokens", permission: null, command: "token list", shows: Tokens },
  { part: "reviews", name: "Reviews", permission: "review.read", command: "review show", shows: Reviews },
  { part: "break-glass", name: "Break-glass", permission: "break_glass.read", command: "break-glass list", shows: BreakGlassPart },
] as const;

export default function Operators() {
  const { part = "people" } = useSearch({ from: "/signed/shell/operators" });
  const me = useMe();
  const shown = PARTS.find((one) => one.part === part) ?? PARTS[0];
  useCommand(`fleetward ${shown.command}`);
  const Shown = shown.shows;
  return (
    <Page
      title="Operators"
      lead="People, what each may do and where, and when they last did it."
      actions={can(me, "operator.invite") && <InviteButton />}
    >
      <nav className="tabs" aria-label="Parts of operators">
        {PARTS.map((one) => (
          <Link
            key={one.part}
            to="/operators"
            search={one.part === "people" ? {} : { part: one.part }}
            activeOptions={{ exact: true }}
          >
            {one.name}
          </Link>
        ))}
      </nav>
      {shown.permission === null || can(me, shown.permission) ? (
        <Shown />
      ) : (
        <div className="sheet">
          <NoPermission what={shown.name.toLowerCase()} permission={shown.permission} />
        </div>
      )}
    </Page>
  );
}
