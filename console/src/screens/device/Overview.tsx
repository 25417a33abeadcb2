import { useQuery } from "@tanstack/react-query";
import type { ReactNode } from "react";

import type { Device, Why } from "../../api/types";
import { Ago, useNow } from "../../design/Ago";
import { Mark, State } from "../../design/marks";
import { Await, Command, Facts, Sheet } from "../../design/parts";
import { useCan } from "../../session/me";
import { certificatesQuery } from "../certificates/queries";
import { modelsQuery } from "../settings/queries";
import { appraisalsQuery, presenceQuery, whyQuery } from "./queries";
import { judgePosture } from "./posture";

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

/** The gates a session stands behind, in the order the broker asks them. */
function Posture({ device }: { device: Device }) {
  const now = useNow();
  const certificates = useQuery(certificatesQuery(device.id));
  const appraisals = useQuery(appraisalsQuery(device.id));
  const models = useQuery(modelsQuery);
  const isAttested = models.data?.find((one) => one.id === device.model)?.attestation !== "none";
  if (certificates.data === undefined || appraisals.data === undefined) return null;
  const gates = judgePosture(device, certificates.data, appraisals.data, isAttested, now);
  const isOpen = gates.every((gate) => gate.isOpen);
  return (
    <section aria-label="Posture">
      <ol className="gates">
        {gates.map((gate) => (
          <li key={gate.name} className={gate.isOpen ? "is-open" : "is-shut"}>
            <State tone={gate.isOpen ? "good" : "bad"} shape={gate.isOpen ? "check" : "cross"}>
              {gate.name}
              <span className="visually-hidden">{gate.isOpen ? ": yes" : ": no"}</span>
            </State>
            <p>{gate.finding}</p>
            {gate.fix !== null && <p className="fix">{gate.fix}</p>}
          </li>
        ))}
        <li className={isOpen ? "is-open is-session" : "is-shut is-session"}>
          <State tone={isOpen ? "good" : "bad"} shape={isOpen ? "disc" : "square"}>
            {isOpen ? "May hold a session" : "No session"}
          </State>
          <SessionFact id={device.id} />
        </li>
      </ol>
    </section>
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
