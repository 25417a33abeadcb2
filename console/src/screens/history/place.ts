import { lazy } from "react";

import { place } from "../../app/place";
import { quote } from "../../shell/commandline";

export const history = place({
  title: "History",
  what: "its history",
  permission: "event.read",
  routes: [],
  tabs: [
    {
      part: "history",
      name: "History",
      permission: "event.read",
      command: (id) => `fleetward events --device ${quote(id)}`,
      shows: lazy(() => import("./History")),
    },
  ],
});
