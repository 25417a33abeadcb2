import { lazy } from "react";

import { place } from "../../app/place";
import { quote } from "../../shell/commandline";

export const telemetry = place({
  title: "Telemetry",
  what: "its telemetry",
  permission: "telemetry.read",
  routes: [],
  tabs: [
    {
      part: "telemetry",
      name: "Telemetry",
      permission: "telemetry.read",
      command: (id) => `fleetward device watch ${quote(id)}`,
      shows: lazy(() => import("./Telemetry")),
    },
    {
      part: "logs",
      name: "Log",
      permission: "telemetry.read",
      command: (id) => `fleetward device watch ${quote(id)}`,
      shows: lazy(() => import("./Logs")),
    },
  ],
});
