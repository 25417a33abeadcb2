import { useQuery } from "@tanstack/react-query";
import { Link, useParams, useSearch } from "@tanstack/react-router";
import { Suspense } from "react";

import { Problem } from "../../api/problem";
import type { Device as DeviceView } from "../../api/types";
import { type DeviceTab, tabsOf } from "../../app/place";
import { Ago } from "../../design/Ago";
import { DeviceState, State } from "../../design/marks";
import { Await, Empty, Loading, NoPermission, Page } from "../../design/parts";
import { can, useCan, useMe } from "../../session/me";
import { useCommand } from "../../shell/commandline";
import { usePlaces } from "../../shell/Shell";
import { Actions } from "./Actions";
import { deviceQuery, presenceQuery } from "./queries";
import "./device.css";

export default function Device() {
  const { id } = useParams({ from: "/signed/shell/devices/$id" });
  const { part } = useSearch({ from: "/signed/shell/devices/$id" });
  const me = useMe();
  const device = useQuery(deviceQuery(id));
  const tabs = tabsOf(usePlaces());
  const shown = tabs.find((one) => one.part === part) ?? tabs[0];
  if (shown === undefined) throw new Error("expected a place that shows a device, found none");
  useCommand(shown.command(id));
  if (device.error instanceof Problem && device.error.status === 404) return <Absent id={id} />;
  const isOpen = (tab: DeviceTab) => can(me, tab.permission, device.data?.group);
  return (
    <Page title={id} lead={<Lead id={id} device={device.data} />} actions={device.data && <Actions device={device.data} />}>
      <nav className="tabs" aria-label="Parts of this device">
        {tabs.filter(isOpen).map((one) => (
          <Link
            key={one.part}
            to="/devices/$id"
            params={{ id }}
            search={one === tabs[0] ? {} : { part: one.part }}
            activeOptions={{ exact: true }}
          >
            {one.name}
          </Link>
        ))}
      </nav>
      <Await query={device} what="this device" permission="device.read">
        {(found) =>
          isOpen(shown) ? (
            <Suspense fallback={<Loading what={shown.name} />}>
              <shown.shows device={found} />
            </Suspense>
          ) : (
            <div className="sheet">
              <NoPermission what={`its ${shown.name.toLowerCase()}`} permission={shown.permission} />
            </div>
          )
        }
      </Await>
    </Page>
  );
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
