import { lazy } from "react";

import { place } from "../../app/place";
import { quote } from "../../shell/commandline";

export const video = place({
  title: "Video",
  what: "its video",
  permission: "video.view",
  routes: [],
  tabs: [
    {
      part: "video",
      name: "Video",
      permission: "video.view",
      command: (id) => `fleetward device view ${quote(id)}`,
      shows: lazy(() => import("./Video")),
    },
  ],
});
