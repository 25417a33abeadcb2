import { useQuery } from "@tanstack/react-query";
import type { ReactNode } from "react";

import type { Certificate, Device } from "../../api/types";
import { Ago, useNow } from "../../design/Ago";
import { State } from "../../design/marks";
import { Await, Empty, Sheet, TableFrame } from "../../design/parts";
import { renderExact } from "../../design/time";
import { certificatesQuery } from "./queries";
import "./certificates.css";

export default function Certificates({ device }: { device: Device }): ReactNode {
  const certificates = useQuery(certificatesQuery(device.id));
  return (
    <Sheet title="Certificates" bare>
      <Await query={certificates} what="its certificates" permission="certificate.read">
        {(list) =>
          list.length === 0 ? (
            <Empty title="It has no certificate yet">
              <p className="soft">It gets its first one when it enrolls with its claim.</p>
            </Empty>
          ) : (
            <>
              <Timeline certificates={list} />
              <Table certificates={list} />
            </>
          )
        }
      </Await>
    </Sheet>
  );
}

const WIDTH = 1000;
const ROW = 18;

/** Each certificate as a bar over the time it is good for, cut where it was revoked; a line for now. */
function Timeline({ certificates }: { certificates: Certificate[] }) {
  const now = useNow().getTime();
  const shown = certificates.slice(0, 12).map((one) => ({
    serial: one.serial,
    from: Date.parse(one.not_before),
    until: Date.parse(one.not_after),
    cut: one.revoked_at === null ? null : Date.parse(one.revoked_at),
  }));
  const first = Math.min(now, ...shown.map((one) => one.from));
  const last = Math.max(now, ...shown.map((one) => one.until));
  const x = (at: number) => ((at - first) / Math.max(1, last - first)) * WIDTH;
  const height = shown.length * ROW + 26;
  return (
    <figure className="timeline">
      <svg viewBox={`0 0 ${WIDTH} ${height}`} role="img" aria-label={`Timeline of ${shown.length} certificates; the table below says the same`}>
        {shown.map((one, index) => (
          <g key={one.serial}>
            <rect x={x(one.from)} y={index * ROW + 3} width={Math.max(3, x(one.until) - x(one.from))} height={ROW - 8} fill={one.until > now && one.cut === null ? "var(--good)" : "var(--line-strong)"} />
            {one.cut !== null && (
              <rect x={x(one.cut)} y={index * ROW + 3} width={Math.max(3, x(one.until) - x(one.cut))} height={ROW - 8} fill="var(--bad)" />
            )}
          </g>
        ))}
        <path d={`M${x(now)} 0V${height - 18}`} stroke="var(--accent)" strokeWidth="2" />
        <text x={Math.min(x(now), WIDTH - 30)} y={height - 4} textAnchor="middle">
          now
        </text>
      </svg>
    </figure>
  );
}

function Table({ certificates }: { certificates: Certificate[] }) {
  const now = useNow();
  return (
    <TableFrame>
      <table>
        <thead>
          <tr>
            <th scope="col">State</th>
            <th scope="col">Serial</th>
            <th scope="col">Issued</th>
            <th scope="col">Good until</th>
            <th scope="col">Revoked</th>
          </tr>
        </thead>
        <tbody>
          {certificates.map((one) => (
            <tr key={one.serial}>
              <td>
                <CertificateState certificate={one} now={now} />
              </td>
              <td className="mono">{one.serial}</td>
              <td>
                <Ago at={one.issued_at} />
              </td>
              <td>{renderExact(new Date(one.not_after))}</td>
              <td>
                {one.revoked_at !== null && (
                  <>
                    <Ago at={one.revoked_at} />: {one.revocation_note ?? one.revocation_reason?.replaceAll("_", " ")}
                  </>
                )}
              </td>
            </tr>
          ))}
        </tbody>
      </table>
    </TableFrame>
  );
}

function CertificateState({ certificate, now }: { certificate: Certificate; now: Date }) {
  if (certificate.revoked_at !== null) {
    return (
      <State tone="bad" shape="cross">
        revoked
      </State>
    );
  }
  return new Date(certificate.not_after) > now ? (
    <State tone="good" shape="disc">
      good
    </State>
  ) : (
    <State tone="soft" shape="dash">
      over
    </State>
  );
}
