/** What the API answers, by the names its OpenAPI document gives. */
export type Role = "viewer" | "operator" | "release-manager" | "security-officer" | "administrator";

export interface Me {
  name: string;
  display_name: string;
  via: "session" | "token" | "local";
  grants: { role: Role; group: string }[];
  permissions: Record<string, string[] | "*">;
  mfa_at: string | null;
  csrf: string;
  session: { id: string; expires_at: string; idle_expires_at: string } | null;
  restricted: boolean;
  factors: { passkeys: number; totp: boolean; password: boolean; recovery_codes_left: number };
}
export interface SignupOffer {
  name: string;
  display_name?: string;
  webauthn: PublicKeyCredentialCreationOptionsJSON;
  totp: { secret: string; uri: string; qr_svg: string };
  password_rules: { min_length: number; min_score: number };
}
export interface SignupDone {
  operator: string;
  recovery_codes: string[];
  csrf: string;
}
export interface PasskeyChallenge {
  challenge_id: string;
  options: PublicKeyCredentialRequestOptionsJSON;
}
export interface SigninOptions {
  passkey: boolean;
  password: boolean;
  oidc: { name: string } | null;
}
export interface DeviceCode {
  client: string;
  address: string;
  created_at: string;
}
export interface Device {
  id: string;
  model: string;
  group: string;
  state: string;
  state_reason: string;
  state_changed_at: string;
  tier: string | null;
  hardware_kind: string | null;
  hardware_fingerprint: string | null;
  firmware_version: string | null;
  created_at: string;
}
export interface Counts {
  total: number;
  by_state: Record<string, number>;
  by_model: Record<string, number>;
  by_firmware: Record<string, number>;
  by_group: Record<string, number>;
}
export interface Card {
  kind: string;
  severity: string;
  title: string;
  count: number;
  items: { label: string; device?: string | null; href: string }[];
  command: string;
}
export interface Certificate {
  serial: string;
  not_before: string;
  not_after: string;
  issued_at: string;
  revoked_at: string | null;
  revocation_reason: string | null;
}
export interface Appraisal {
  at: string;
  good: boolean;
  expires_at: string;
  reasons: { code: string; message: string }[];
  firmware_version: string | null;
  reset_count: number;
  restart_count: number;
}
export interface Presence {
  device: string;
  connected: boolean;
  since: string | null;
  address: string | null;
  reason: string | null;
}
export interface Why {
  questions: {
    question: string;
    answer: string;
    facts: { what: string; value: string; good: boolean }[];
    fix: string | null;
    command: string | null;
  }[];
}
export interface TelemetryRecord {
  time: string;
  device_time: string | null;
  kind: string;
  stream: string;
  value: unknown;
}
export interface DeviceCommand {
  id: number;
  name: string;
  args: Record<string, unknown>;
  state: string;
  actor: string;
  created_at: string;
  finished_at: string | null;
  result: unknown;
  error: string | null;
}
export interface Release {
  model: string;
  version: string;
  state: string;
  security_counter: number;
  sha256: string;
  length: number;
  sbom_sha256: string;
  author: string;
  created_at: string;
  published_at: string | null;
  withdrawn_at: string | null;
  withdrawn_reason: string;
  approvals: { operator: string; at: string }[];
  approvals_needed: number;
}
export interface Operator {
  name: string;
  display_name: string;
  state: string;
  grants: { id: string; role: Role; group: string; last_used_at?: string | null }[];
  last_seen_at: string | null;
  factors: Me["factors"];
}
export interface SavedFilter {
  name: string;
  filter: Partial<Record<"model" | "group" | "state" | "firmware" | "search", string>>;
}
export interface BulkReport {
  matching: number;
  will_change: number;
  skipped: { id: string; why: string }[];
}
export interface Model {
  id: string;
  attestation: string;
  min_tier: string;
  cert_lifetime: string;
  appraisal_lifetime: string;
}
export interface FirmwareView {
  device: string;
  model: string;
  current: string | null;
  wanted: string | null;
  active_slot: string | null;
  trial: boolean | null;
  reported_at: string | null;
}
export interface ViewGrant {
  id: string;
  device: string;
  ticket: string;
  url: string;
  ticket_expires_at: string;
  expires_at: string;
}
export interface Authority {
  name: string;
  subject: string;
  not_before: string;
  not_after: string;
  sha256: string;
}
export interface Check {
  id: string;
  title: string;
  state: "ok" | "warn" | "fail";
  found: string;
  fix: string | null;
  command: string | null;
}
export interface RoleView {
  role: Role;
  permissions: string[];
  description: string;
}
export interface Review {
  id: string;
  title: string;
  state: string;
  due_at: string;
  decided: number;
  total: number;
  overdue: boolean;
}
export interface ReviewItem {
  grant_id: string;
  operator: string;
  role: Role;
  group: string;
  given_at: string;
  last_used_at: string | null;
  proposal: "keep" | "remove";
  why: string;
  decision: "keep" | "remove" | null;
  decided_by: string | null;
  note: string;
}
export interface ReviewDetail extends Review {
  items: ReviewItem[];
}
export interface Token {
  id: string;
  name: string;
  operator: string;
  scopes: string[];
  created_at: string;
  expires_at: string;
  last_used_at: string | null;
}
export interface BreakGlass {
  id: string;
  reason: string;
  state: string;
  requested_by: string;
  requested_at: string;
  approved_by: string | null;
  expires_at: string | null;
  findings: string | null;
}
export interface SessionView {
  id: string;
  created_at: string;
  last_seen_at: string;
  expires_at: string;
  address: string;
  user_agent: string;
  current: boolean;
}
export interface AuditEntry {
  sequence: number;
  time: string;
  actor: string;
  action: string;
  subject: string;
  details: Record<string, unknown>;
  leaf_hash: string;
}
export interface Verified {
  verified: boolean;
  entries: number;
  root: string;
}
export interface Invitation {
  name: string;
  link: string;
  expires_at: string;
}
export interface NewToken extends Token {
  token: string;
}
export interface Passkey {
  id: string;
  name: string;
  created_at: string;
  last_used_at: string | null;
}
