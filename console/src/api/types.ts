/** What the API answers, by short names; the forms themselves are made from its OpenAPI document. */

import type { components } from "./schema";

type Schemas = components["schemas"];

export type Appraisal = Schemas["AppraisalView"];
export type AuditEntry = Schemas["AuditEntryView"];
export type Authority = Schemas["AuthorityView"];
export type BreakGlass = Schemas["BreakGlassView"];
export type BulkReport = Schemas["BulkView"];
export type Card = Schemas["CardView"];
export type Certificate = Schemas["CertificateView"];
export type Check = Schemas["CheckView"];
export type Counts = Schemas["CountsView"];
export type Device = Schemas["DeviceView"];
export type DeviceCommand = Schemas["CommandView"];
export type Firmware = Schemas["FirmwareView"];
export type Gate = Schemas["GateView"];
export type Me = Schemas["MeView"];
export type Model = Schemas["ModelView"];
export type Operator = Schemas["OperatorView"];
export type Passkey = Schemas["PasskeyView"];
export type Release = Schemas["ReleaseView"];
export type Review = Schemas["ReviewView"];
export type ReviewDetail = Schemas["ReviewDetail"];
export type ReviewItem = Schemas["ReviewItemView"];
export type Role = Schemas["Role"];
export type RoleView = Schemas["RoleView"];
export type Session = Schemas["SessionView"];
export type SignupDone = Schemas["SignedUpView"];
export type SignupOffer = Schemas["SignupOffer"];
export type TelemetryRecord = Schemas["RecordView"];
export type Token = Schemas["TokenView"];
export type Why = Schemas["WhyView"];
