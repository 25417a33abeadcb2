/** Whether a device may hold a session, gate by gate, as the broker decides it. */

import type { Appraisal, Certificate, Device } from "../../api/types";
import { renderRelative } from "../../design/time";

export interface Gate {
  name: string;
  isOpen: boolean;
  finding: string;
  fix: string | null;
}

export function judgePosture(
  device: Device,
  certificates: Certificate[],
  appraisals: Appraisal[],
  isAttested: boolean,
  now: Date,
): Gate[] {
  const gates = [judgeCertificate(certificates, now), judgeRevocation(device, certificates)];
  if (isAttested) gates.push(judgeAppraisal(appraisals[0], now));
  return [...gates, judgeLife(device)];
}

function judgeCertificate(certificates: Certificate[], now: Date): Gate {
  const name = "Certificate valid";
  const latest = certificates[0];
  if (latest === undefined) {
    return { name, isOpen: false, finding: "It has never had one.", fix: "Give it a claim to enroll with." };
  }
  const until = new Date(latest.not_after);
  if (until <= now) {
    return {
      name,
      isOpen: false,
      finding: `It ended ${renderRelative(until, now)}.`,
      fix: "A device that attests renews by itself; else give it a claim.",
    };
  }
  return { name, isOpen: true, finding: `It ends ${renderRelative(until, now)}.`, fix: null };
}

function judgeRevocation(device: Device, certificates: Certificate[]): Gate {
  const name = "Not revoked";
  const latest = certificates[0];
  if (device.state === "revoked" || latest?.revoked_at != null) {
    const why = latest?.revocation_reason ?? device.state_reason;
    return { name, isOpen: false, finding: `Revoked: ${why}.`, fix: "It can only come back as a new device." };
  }
  return { name, isOpen: true, finding: "Neither device nor certificate is revoked.", fix: null };
}

function judgeAppraisal(latest: Appraisal | undefined, now: Date): Gate {
  const name = "Appraisal good and fresh";
  if (latest === undefined) {
    return { name, isOpen: false, finding: "It has not attested yet.", fix: "Its agent attests after it enrolled." };
  }
  if (!latest.good) {
    return {
      name,
      isOpen: false,
      finding: latest.reasons[0]?.message ?? "The last appraisal was bad.",
      fix: "Compare what it measured with the references of its model.",
    };
  }
  const until = new Date(latest.expires_at);
  if (until <= now) {
    return { name, isOpen: false, finding: `It ended ${renderRelative(until, now)}.`, fix: "Have it attest now." };
  }
  return { name, isOpen: true, finding: `Good; it ends ${renderRelative(until, now)}.`, fix: null };
}

function judgeLife(device: Device): Gate {
  const name = "Life allows it";
  const fixes: Record<string, string> = {
    registered: "It has to enroll first.",
    enrolled: "It becomes active with its first good appraisal.",
    quarantined: "Release it once the cause is gone.",
  };
  return device.state === "active"
    ? { name, isOpen: true, finding: "The device is active.", fix: null }
    : { name, isOpen: false, finding: `The device is ${device.state}: ${device.state_reason}.`, fix: fixes[device.state] ?? null };
}
