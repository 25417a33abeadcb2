import { useQuery } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";
import type { ReactNode } from "react";

import type { Device, Firmware as FirmwareView } from "../../api/types";
import { Ago } from "../../design/Ago";
import { Severity, State } from "../../design/marks";
import { Await, Empty, Facts, Sheet } from "../../design/parts";
import { ReleaseState } from "../releases/ReleaseState";
import { firmwareQuery } from "./queries";
import "./firmware.css";

export default function Firmware({ device }: { device: Device }): ReactNode {
  const firmware = useQuery(firmwareQuery(device.id));
  return (
    <Await query={firmware} what="its firmware" permission="device.read">
      {(found) => (
        <>
          <Slots firmware={found} />
          <div className="columns">
            <Releases firmware={found} model={device.model} />
            <Told firmware={found} />
          </div>
        </>
      )}
    </Await>
  );
}

/** Both slots side by side, as the device says they are, and the version we hold proven. */
function Slots({ firmware }: { firmware: FirmwareView }) {
  const { running, proven, active, inactive, trial } = firmware;
  return (
    <Sheet title="Slots" aside={<Proof isProven={proven} />}>
      {running === null && active === null ? (
        <Empty title="It has reported no firmware yet" />
      ) : (
        <div className="slots">
          <Slot name={active?.slot ?? "running"} version={active?.version ?? running} isActive>
            runs now
          </Slot>
          <Slot name={inactive?.slot ?? "other"} version={inactive?.version ?? null} isActive={false}>
            waits
          </Slot>
          {trial !== null && (
            <Slot name={`trial in ${trial.slot}`} version={trial.version} isActive={false}>
              <State tone="care" shape="half">
                {trial.tries_left} tries left
              </State>
            </Slot>
          )}
        </div>
      )}
    </Sheet>
  );
}

function Proof({ isProven }: { isProven: boolean }) {
  return isProven ? (
    <State tone="good" shape="check">
      proven by its last appraisal
    </State>
  ) : (
    <State tone="soft" shape="ring">
      its own word
    </State>
  );
}

function Slot({
  name,
  version,
  isActive,
  children,
}: {
  name: string;
  version: string | null;
  isActive: boolean;
  children: ReactNode;
}) {
  return (
    <div className={isActive ? "slot is-active" : "slot"}>
      <span className="soft">Slot {name}</span>
      <strong>{version ?? "empty"}</strong>
      <span>{children}</span>
    </div>
  );
}

function Releases({ firmware, model }: { firmware: FirmwareView; model: string }) {
  const { current_release: current, wanted_release: wanted, last_report: report } = firmware;
  const shown = (release: FirmwareView["current_release"]) =>
    release && (
      <span className="row tight">
        <Link to="/releases/$model/$version" params={{ model, version: release.version }} className="mono">
          {release.version}
        </Link>
        <ReleaseState state={release.state} />
      </span>
    );
  return (
    <Sheet title="Release">
      <Facts
        of={[
          ["Runs", shown(current) ?? "no release of ours"],
          ["Should run", shown(wanted) ?? "nothing newer"],
          ["Last report", report && <>{report.state}{report.version !== null && ` ${report.version}`}, <Ago at={report.at} /></>],
          ["Progress", report?.progress != null ? `${report.progress} %` : null],
          ["Error", report?.error ? <span key="e" className="tone-bad">{report.error}</span> : "none"],
        ]}
      />
    </Sheet>
  );
}

function Told({ firmware }: { firmware: FirmwareView }) {
  return (
    <Sheet title="What it told of updates" bare>
      {firmware.history.length === 0 ? (
        <p className="inside soft">Nothing yet.</p>
      ) : (
        <ul className="appraisals">
          {firmware.history.map((one) => (
            <li key={`${one.at} ${one.kind}`}>
              <span className="row apart">
                <Severity severity={one.severity} />
                <span className="soft small">
                  <Ago at={one.at} />
                </span>
              </span>
              <p>{one.message}</p>
            </li>
          ))}
        </ul>
      )}
    </Sheet>
  );
}
