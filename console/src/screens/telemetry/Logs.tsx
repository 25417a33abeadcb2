import type { ReactNode } from "react";

import { Await, Empty, Sheet } from "../../design/parts";
import type { Device, TelemetryRecord } from "../../api/types";
import { useRecords } from "./watch";
import "./telemetry.css";

const clock = new Intl.DateTimeFormat("en-GB", { timeStyle: "medium" });

export default function Logs({ device }: { device: Device }): ReactNode {
  const records = useRecords(device.id, "log");
  return (
    <Sheet title="Log" aside={<span className="soft small">newest first, live</span>} bare>
      <Await query={records} what="its log" permission="telemetry.read">
        {(list) =>
          list.length === 0 ? (
            <Empty title="It has logged nothing">
              <p className="soft">
                What it publishes under <code>d/ID/log</code> appears here as it arrives.
              </p>
            </Empty>
          ) : (
            // Long logs scroll in their own frame: the keyboard must reach it.
            // eslint-disable-next-line jsx-a11y/no-noninteractive-tabindex
            <ol className="log" tabIndex={0} aria-label="Log lines">
              {[...list].reverse().map((record, index) => (
                <li key={`${record.time} ${list.length - index}`}>
                  <time dateTime={record.time}>{clock.format(new Date(record.device_time ?? record.time))}</time>
                  <span>{renderLine(record)}</span>
                </li>
              ))}
            </ol>
          )
        }
      </Await>
    </Sheet>
  );
}

function renderLine(record: TelemetryRecord): string {
  if (typeof record.value === "string") return record.value;
  if (typeof record.value !== "object" || record.value === null) return JSON.stringify(record.value);
  const { event, ...fields } = record.value as Record<string, unknown>;
  const rest = Object.entries(fields).map(([name, value]) => `${name}=${JSON.stringify(value)}`);
  return [typeof event === "string" ? event : "", ...rest].join(" ").trim();
}
