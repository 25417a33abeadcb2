import { lazy } from "react";

import { place } from "../../app/place";
import { quote } from "../../shell/commandline";

export const certificates = place({
  title: "Certificates",
  what: "its certificates",
  permission: "certificate.read",
  routes: [],
  tabs: [
    {
      part: "certificates",
      name: "Certificates",
      permission: "certificate.read",
      command: (id) => `fleetward device show ${quote(id)}`,
      shows: lazy(() => import("./Certificates")),
    },
  ],
});
