import type { FleetEvent } from "./live";

type Key = readonly string[];

/** What an event of a kind makes stale besides the device it names; the longest prefix of the kind holds. */
const BY_KIND: Record<string, Key[]> = {
  "access.": [["today"]],
  "attestation.": [["today"], ["devices"]],
  "break_glass.": [["break-glass"], ["me"], ["today"]],
  "certificate.": [["today"]],
  "device.": [["today"], ["devices"], ["counts"]],
  "enrollment.": [["devices"], ["counts"], ["today"]],
  "grant.": [["operators"], ["me"], ["today"]],
  "operator.": [["operators"], ["today"]],
  "release.": [["releases"], ["today"]],
  "review.": [["reviews"], ["today"]],
  "shipment.": [["devices"], ["counts"]],
  "token.": [["tokens"]],
};

/** Return the query keys whose answers an event may have changed. */
export function staleKeys(event: Pick<FleetEvent, "kind" | "device">): Key[] {
  const area = Object.keys(BY_KIND).find((prefix) => event.kind.startsWith(prefix));
  const keys = area === undefined ? [] : (BY_KIND[area] ?? []);
  return event.device === null ? keys : [...keys, ["device", event.device]];
}
