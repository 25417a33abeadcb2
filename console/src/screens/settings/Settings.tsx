import { useQuery } from "@tanstack/react-query";

import type { Authority, Check, Model } from "../../api/types";
import { Ago, useNow } from "../../design/Ago";
import { type Shape, State, type Tone } from "../../design/marks";
import { Await, Command, Empty, Facts, Page, Sheet, TableFrame } from "../../design/parts";
import { renderExact } from "../../design/time";
import { useLine } from "../../shell/live";
import { authoritiesQuery, checklistQuery, healthQuery, modelsQuery } from "./queries";
import "./settings.css";

export default function Settings() {
  const checklist = useQuery(checklistQuery);
  return (
    <Page title="Settings" lead="How well this platform itself is kept.">
      <div className="columns">
        <Sheet title="Checklist" bare>
          <Await query={checklist} what="the checklist" permission="settings.read">
            {(checks) => <Checklist checks={checks} />}
          </Await>
        </Sheet>
        <div className="stack wide">
          <Authorities />
          <Models />
          <Server />
        </div>
      </div>
    </Page>
  );
}

const STATES: Record<Check["state"], { tone: Tone; shape: Shape; word: string }> = {
  fail: { tone: "bad", shape: "cross", word: "mend this" },
  warn: { tone: "care", shape: "triangle", word: "look at this" },
  ok: { tone: "good", shape: "check", word: "in order" },
};
const ORDER: Check["state"][] = ["fail", "warn", "ok"];

function Checklist({ checks }: { checks: Check[] }) {
  const sorted = [...checks].sort((a, b) => ORDER.indexOf(a.state) - ORDER.indexOf(b.state));
  return (
    <ul className="checks">
      {sorted.map((one) => {
        const { tone, shape, word } = STATES[one.state];
        return (
          <li key={one.id}>
            <div className="row apart">
              <strong>{one.title}</strong>
              <State tone={tone} shape={shape}>
                {word}
              </State>
            </div>
            <p className="soft">{one.found}</p>
            {one.state !== "ok" && one.fix && <p className="fix">{one.fix}</p>}
            {one.state !== "ok" && one.command && <Command label={`command for ${one.title}`}>{one.command}</Command>}
          </li>
        );
      })}
    </ul>
  );
}

const NAMES: Record<string, string> = {
  root: "Root, offline",
  "device-ca": "Device CA",
  "server-ca": "Server CA",
};

/** The hierarchy, root first, each with how much of its life is left. */
function Authorities() {
  const authorities = useQuery(authoritiesQuery);
  return (
    <Sheet title="Certificate authorities" aside={<a href="/api/v1/pki/ca.pem" download="fleetward-root.pem">root certificate</a>}>
      <Await query={authorities} what="the authorities" permission="authority.read">
        {(list) => (
          <ol className="hierarchy">
            {list.map((one) => (
              <AuthorityItem key={one.name} authority={one} />
            ))}
          </ol>
        )}
      </Await>
    </Sheet>
  );
}

function AuthorityItem({ authority }: { authority: Authority }) {
  const now = useNow().getTime();
  const from = Date.parse(authority.not_before);
  const until = Date.parse(authority.not_after);
  const left = Math.max(0, Math.min(1, (until - now) / (until - from)));
  return (
    <li className={authority.name === "root" ? "is-root" : undefined}>
      <div className="row apart">
        <strong>{NAMES[authority.name] ?? authority.name}</strong>
        <span>
          ends <Ago at={authority.not_after} />
        </span>
      </div>
      <progress className="share" max={1} value={left} aria-label={`Life left of ${authority.name}`} />
      <details>
        <summary>details</summary>
        <Facts
          of={[
            ["Subject", authority.subject],
            ["Until", renderExact(new Date(authority.not_after))],
            ["SHA-256", <code key="s">{authority.sha256}</code>],
          ]}
        />
      </details>
    </li>
  );
}

function Models() {
  const models = useQuery(modelsQuery);
  return (
    <Sheet title="Models" bare>
      <Await query={models} what="models" permission="model.read">
        {(list) =>
          list.length === 0 ? (
            <Empty title="No model yet">
              <Command>fleetward model add camera --attestation required --min-tier tpm</Command>
            </Empty>
          ) : (
            <ModelTable models={list} />
          )
        }
      </Await>
    </Sheet>
  );
}

function ModelTable({ models }: { models: Model[] }) {
  return (
    <TableFrame>
      <table>
        <thead>
          <tr>
            <th scope="col">Model</th>
            <th scope="col">Attestation</th>
            <th scope="col">Key at least</th>
            <th scope="col">Certificate</th>
            <th scope="col">Appraisal</th>
          </tr>
        </thead>
        <tbody>
          {models.map((one) => (
            <tr key={one.id}>
              <td className="mono">{one.id}</td>
              <td>{one.attestation}</td>
              <td>{one.min_tier}</td>
              <td>{one.cert_lifetime}</td>
              <td>{one.appraisal_lifetime}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </TableFrame>
  );
}

function Server() {
  const health = useQuery(healthQuery);
  const line = useLine();
  return (
    <Sheet title="Server">
      <Await query={health} what="the server">
        {(found) => (
          <Facts
            of={[
              ["Version", found.version],
              ["Status", found.status],
              ["Address", <code key="a">{location.origin}</code>],
              ["Event stream", line],
            ]}
          />
        )}
      </Await>
    </Sheet>
  );
}
