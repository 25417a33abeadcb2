import { useQuery } from "@tanstack/react-query";
import type { ReactNode } from "react";

import type { Device, Gate, Why } from "../../api/types";
import { Ago } from "../../design/Ago";
import { Mark, State } from "../../design/marks";
import { Await, Command, Facts, Sheet } from "../../design/parts";
import { useCan } from "../../session/me";
import { appraisalsQuery, presenceQuery, sessionQuery, whyQuery } from "./queries";

export default function Overview({ device }: { device: Device }): ReactNode {
  return (
    <>
      <Posture device={device} />
      <div className="columns">
        <Questions id={device.id} />
        <div className="stack wide">
          <Identity device={device} />
          <Attestation id={device.id} />
        </div>
      </div>
    </>
  );
}

/** The gates a session stands behind, in the order the broker asks them, as the platform found them. */
function Posture({ device }: { device: Device }) {
  const session = useQuery(sessionQuery(device.id));
  return (
    <section aria-label="Posture">
      <Await query={session} what="its gates" permission="device.read">
        {({ gates, may_connect }) => (
          <ol className="gates">
            {gates.map((gate) => (
              <GateItem key={gate.gate} gate={gate} />
            ))}
            <li className={may_connect ? "is-open is-session" : "is-shut is-session"}>
              <State tone={may_connect ? "good" : "bad"} shape={may_connect ? "disc" : "square"}>
                {may_connect ? "May hold a session" : "No session"}
              </State>
              <SessionFact id={device.id} />
            </li>
          </ol>
        )}
      </Await>
    </section>
  );
}

function GateItem({ gate }: { gate: Gate }) {
  return (
    <li className={gate.is_open ? "is-open" : "is-shut"}>
      <State tone={gate.is_open ? "good" : "bad"} shape={gate.is_open ? "check" : "cross"}>
        {gate.title}
        <span className="visually-hidden">{gate.is_open ? ": yes" : ": no"}</span>
      </State>
      <p>{gate.finding}</p>
      {gate.closes_at !== null && (
        <p className="soft small">
          Ends <Ago at={gate.closes_at} />.
        </p>
      )}
      {gate.fix !== null && <p className="fix">{gate.fix}</p>}
      {gate.command !== null && <Command label={`command for ${gate.title}`}>{gate.command}</Command>}
    </li>
  );
}

function SessionFact({ id }: { id: string }) {
  const { data } = useQuery(presenceQuery(id));
  if (data === undefined) return null;
  if (data.connected) {
    return (
      <p>
        Connected from <span className="mono">{data.address ?? "an unknown address"}</span>.
      </p>
    );
  }
  return <p>{data.reason ? `Not connected: ${data.reason}.` : "Not connected now."}</p>;
}

const QUESTIONS: Record<string, string> = {
  connected: "Why is it connected?",
  denied: "Why is it denied?",
  offline: "Why is it offline?",
  not_updating: "Why is it not updating?",
  no_video: "Why is there no video?",
};

function Questions({ id }: { id: string }) {
  const why = useQuery(whyQuery(id));
  return (
    <Sheet title="Why?" bare>
      <Await query={why} what="the answers">
        {({ questions }) => (
          <div className="questions">
            {questions.map((one, index) => (
              <Question key={one.question} one={one} isOpen={index === 0} />
            ))}
            {questions.length === 0 && <p className="inside soft">All is as it should be: nothing to ask.</p>}
          </div>
        )}
      </Await>
    </Sheet>
  );
}

function Question({ one, isOpen }: { one: Why["questions"][number]; isOpen: boolean }) {
  return (
    <details open={isOpen}>
      <summary>{QUESTIONS[one.question] ?? one.question}</summary>
      <div className="stack">
        <p>{one.answer}</p>
        <ul className="findings">
          {one.facts.map((fact) => (
            <li key={fact.what}>
              <span className={`state tone-${fact.good ? "good" : "bad"}`}>
                <Mark shape={fact.good ? "check" : "cross"} />
                <span className="visually-hidden">{fact.good ? "good: " : "not good: "}</span>
              </span>
              <span className="soft">{fact.what}</span>
              <span className="wrap-any">{fact.value}</span>
            </li>
          ))}
        </ul>
        {one.fix && <p className="fix">{one.fix}</p>}
        {one.command && <Command label="the command that mends it">{one.command}</Command>}
      </div>
    </details>
  );
}

const TIERS: Record<string, string> = {
  tpm: "in a TPM, proven by its endorsement key",
  pkcs11: "in a secure element (PKCS#11)",
  software: "in a file of the device",
};

function Identity({ device }: { device: Device }) {
  return (
    <Sheet title="Identity">
      <Facts
        of={[
          ["Private key", device.tier === null ? "none yet" : (TIERS[device.tier] ?? device.tier)],
          ["Hardware", device.hardware_kind],
          ["Fingerprint", device.hardware_fingerprint && <code key="f">{device.hardware_fingerprint}</code>],
          ["Firmware", device.firmware_version],
          ["Registered", <Ago key="r" at={device.created_at} />],
          ["State", <>{device.state}: {device.state_reason}, <Ago at={device.state_changed_at} /></>],
        ]}
      />
    </Sheet>
  );
}

function Attestation({ id }: { id: string }) {
  const mayRead = useCan("attestation.read");
  const appraisals = useQuery({ ...appraisalsQuery(id), enabled: mayRead });
  return (
    <Sheet title="Attestation" bare>
      <Await query={appraisals} what="its appraisals" permission="attestation.read">
        {(list) =>
          list.length === 0 ? (
            <p className="inside soft">It has never attested.</p>
          ) : (
            <ul className="appraisals">
              {list.slice(0, 6).map((one) => (
                <li key={one.at}>
                  <span className="row apart">
                    <State tone={one.good ? "good" : "bad"} shape={one.good ? "check" : "cross"}>
                      {one.good ? "good" : "bad"}
                    </State>
                    <span className="soft small">
                      <Ago at={one.at} />
                      {one.firmware_version && `, firmware ${one.firmware_version}`}
                    </span>
                  </span>
                  {one.reasons.map((reason) => (
                    <p key={reason.code} className="small">
                      {reason.message} <code>{reason.code}</code>
                    </p>
                  ))}
                </li>
              ))}
            </ul>
          )
        }
      </Await>
    </Sheet>
  );
}
