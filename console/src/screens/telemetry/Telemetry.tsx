import { type ReactNode, useMemo } from "react";

import { Await, Empty, Sheet } from "../../design/parts";
import type { Device, TelemetryRecord } from "../../api/types";
import { Plot } from "./Plot";
import { findSeries } from "./series";
import { useRecords } from "./watch";
import "./telemetry.css";

export default function Telemetry({ device }: { device: Device }): ReactNode {
  const records = useRecords(device.id, "telemetry");
  return (
    <Await query={records} what="its telemetry" permission="telemetry.read">
      {(list) => <Plots records={list} />}
    </Await>
  );
}

function Plots({ records }: { records: TelemetryRecord[] }) {
  const series = useMemo(() => findSeries(records), [records]);
  if (records.length === 0) {
    return (
      <div className="sheet">
        <Empty title="It has sent no telemetry">
          <p className="soft">
            What it publishes under <code>d/ID/t/STREAM</code> appears here as it arrives.
          </p>
        </Empty>
      </div>
    );
  }
  return (
    <div className="plots">
      {series.map((one) => (
        <Sheet key={one.name} title={one.name} aside={<Latest values={one.values} />}>
          <Plot series={one} />
        </Sheet>
      ))}
      {series.length === 0 && (
        <Sheet title="Last readings">
          <pre className="wrap-any">{JSON.stringify(records.at(-1)?.value, null, 2)}</pre>
        </Sheet>
      )}
    </div>
  );
}

function Latest({ values }: { values: number[] }) {
  const last = values.at(-1);
  return <strong className="mono">{last === undefined ? "" : last.toLocaleString("en", { maximumFractionDigits: 2 })}</strong>;
}
