/** All places, in the order in which the rail and the page of a device show what they bring. */

import { audit } from "../screens/audit/place";
import { certificates } from "../screens/certificates/place";
import { commands } from "../screens/commands/place";
import { device } from "../screens/device/place";
import { devices } from "../screens/devices/place";
import { history } from "../screens/history/place";
import { me } from "../screens/me/place";
import { operators } from "../screens/operators/place";
import { releases } from "../screens/releases/place";
import { settings } from "../screens/settings/place";
import { telemetry } from "../screens/telemetry/place";
import { today } from "../screens/today/place";
import { video } from "../screens/video/place";

export const PLACES = [
  today, devices, device, certificates, releases, telemetry, video, commands, history, operators, audit, settings, me,
] as const;
