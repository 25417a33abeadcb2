import { lazy } from "react";

import { place } from "../../app/place";
import { quote } from "../../shell/commandline";

export const commands = place({
  title: "Commands",
  what: "its commands",
  permission: "command.read",
  routes: [],
  tabs: [
    {
      part: "commands",
      name: "Commands",
      permission: "command.read",
      command: (id) => `fleetward device command ${quote(id)} ping`,
      shows: lazy(() => import("./Commands")),
    },
  ],
});
