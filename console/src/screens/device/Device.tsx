import { useQuery } from "@tanstack/react-query";
import { Link, useParams, useSearch } from "@tanstack/react-router";
import { lazy, Suspense } from "react";

import { deviceQuery, presenceQuery } from "../../api/queries";
import { Problem } from "../../api/problem";
import type { Device as DeviceView } from "../../api/types";
import { Ago } from "../../design/Ago";
import { DeviceState, State } from "../../design/marks";
import { Await, Empty, Loading, Page } from "../../design/parts";
import { useCan } from "../../session/me";
import { quote, useCommand } from "../../shell/commandline";
import { Actions } from "./Actions";
import { Overview } from "./Overview";
import "./device.css";

const Certificates = lazy(() => import("./Certificates"));
const Firmware = lazy(() => import("./Firmware"));
const Telemetry = lazy(() => import("./Telemetry"));
const Logs = lazy(() => import("./Logs"));
const Video = lazy(() => import("./Video"));
const Commands = lazy(() => import("./Commands"));
const History = lazy(() => import("./History"));

const PARTS = [
  { part: "overview", name: "Overview", permission: "device.read", command: "device show" },
  { part: "certificates", name: "Certificates", permission: "certificate.read", command: "device show" },
  { part: "firmware", name: "Firmware", permission: "device.read", command: "device firmware" },
  { part: "telemetry", name: "Telemetry", permission: "telemetry.read", command: "device watch" },
  { part: "logs", name: "Log", permission: "telemetry.read", command: "device watch" },
  { part: "video", name: "Video", permission: "video.view", command: "device view" },
  { part: "commands", name: "Commands", permission: "command.read", command: "device command" },
  { part: "history", name: "History", permission: "event.read", command: "events --device" },
] as const;

export default function Device() {
  const { id } = useParams({ from: "/signed/shell/devices/$id" });
  const { part = "overview" } = useSearch({ from: "/signed/shell/devices/$id" });
  const device = useQuery(deviceQuery(id));
  const shown = PARTS.find((one) => one.part === part) ?? PARTS[0];
  useCommand(`fleetward ${shown.command} ${quote(id)}${part === "commands" ? " ping" : ""}`);
  if (device.error instanceof Problem && device.error.status === 404) return <Absent id={id} />;
  return (
    <Page title={id} lead={<Lead id={id} device={device.data} />} actions={device.data && <Actions device={device.data} />}>
      <nav className="tabs" aria-label="Parts of this device">
        {PARTS.map((one) => (
          <Link
            key={one.part}
            to="/devices/$id"
            params={{ id }}
            search={one.part === "overview" ? {} : { part: one.part }}
            activeOptions={{ exact: true }}
          >
            {one.name}
          </Link>
        ))}
      </nav>
      <Await query={device} what="this device" permission="device.read">
        {(found) => (
          <Suspense fallback={<Loading what={shown.name} />}>
            <Part part={shown.part} device={found} />
          </Suspense>
        )}
      </Await>
    </Page>
  );
}

function Part({ part, device }: { part: (typeof PARTS)[number]["part"]; device: DeviceView }) {
  switch (part) {
    case "overview":
      return <Overview device={device} />;
    case "certificates":
      return <Certificates id={device.id} />;
    case "firmware":
      return <Firmware device={device} />;
    case "telemetry":
      return <Telemetry id={device.id} />;
    case "logs":
      return <Logs id={device.id} />;
    case "video":
      return <Video device={device} />;
    case "commands":
      return <Commands device={device} />;
    case "history":
      return <History id={device.id} />;
  }
}

function Lead({ id, device }: { id: string; device: DeviceView | undefined }) {
  const presence = useQuery({ ...presenceQuery(id), enabled: useCan("device.read") });
  return (
    <span className="row" data-testid="device-lead">
      {device !== undefined && <DeviceState state={device.state} />}
      {presence.data?.connected === true ? (
        <State tone="good" shape="check">
          connected
        </State>
      ) : (
        <State tone="soft" shape="dash">
          not connected
        </State>
      )}
      {presence.data?.since != null && (
        <span>
          since <Ago at={presence.data.since} />
        </span>
      )}
      {device !== undefined && (
        <span>
          model {device.model}, group {device.group}
        </span>
      )}
    </span>
  );
}

function Absent({ id }: { id: string }) {
  return (
    <Page title="No such device">
      <div className="sheet">
        <Empty title={`There is no device ${id}, or you may not see it`}>
          <Link to="/devices">Go to the devices</Link>
        </Empty>
      </div>
    </Page>
  );
}
