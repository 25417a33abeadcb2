import { describe, expect, it } from "vitest";

import type { Appraisal, Certificate, Device } from "../../api/types";
import { judgePosture } from "./posture";

const now = new Date("2026-06-01T12:00:00Z");
const device: Device = {
  id: "cam-1", model: "camera", group: "default", state: "active", state_reason: "attested", state_changed_at: now.toISOString(),
  tier: "tpm", hardware_kind: null, hardware_fingerprint: null, firmware_version: null, created_at: now.toISOString(),
};
const certificate: Certificate = {
  serial: "1", not_before: "2026-06-01T11:00:00Z", not_after: "2026-06-01T13:00:00Z", issued_at: "2026-06-01T11:00:00Z",
  revoked_at: null, revocation_reason: null,
};
const appraisal: Appraisal = {
  at: "2026-06-01T11:30:00Z", good: true, expires_at: "2026-06-01T12:30:00Z", reasons: [], firmware_version: null,
  reset_count: 0, restart_count: 0,
};
const closed = (...given: Parameters<typeof judgePosture>) => judgePosture(...given).filter((gate) => !gate.isOpen).map((gate) => gate.name);

describe("the posture of a device", () => {
  it("is open when certificate, appraisal and life are good", () => {
    expect(closed(device, [certificate], [appraisal], true, now)).toEqual([]);
  });
  it("is closed at the very second a certificate ends", () => {
    expect(closed(device, [{ ...certificate, not_after: now.toISOString() }], [appraisal], true, now)).toEqual(["Certificate valid"]);
  });
  it("asks for an appraisal only where the model does", () => {
    expect(closed(device, [certificate], [], true, now)).toEqual(["Appraisal good and fresh"]);
    expect(closed(device, [certificate], [], false, now)).toEqual([]);
  });
  it("looks at the newest appraisal, not at a better one before", () => {
    expect(closed(device, [certificate], [{ ...appraisal, good: false }, appraisal], true, now)).toEqual(["Appraisal good and fresh"]);
  });
  it("tells each closed gate of a revoked device", () => {
    const revoked = { ...certificate, revoked_at: now.toISOString(), revocation_reason: "key_compromise" };
    expect(closed({ ...device, state: "revoked" }, [revoked], [appraisal], true, now)).toEqual(["Not revoked", "Life allows it"]);
  });
});
