import { Button } from "@mantine/core";
import { useQuery } from "@tanstack/react-query";
import { useNavigate, useSearch } from "@tanstack/react-router";
import { useMemo, useState } from "react";

import { Await, Command, Empty, Page } from "../../design/parts";
import { renderCount } from "../../design/time";
import { quote, useCommand } from "../../shell/commandline";
import { countsQuery, type DeviceFilter } from "./queries";
import { BulkBar } from "./Bulk";
import { DeviceList } from "./DeviceList";
import { FilterBar } from "./FilterBar";
import { SavedFilters } from "./SavedFilters";
import { emptySelection, type Selection } from "./selection";
import "./devices.css";

const NAMES = ["search", "model", "group", "state", "firmware"] as const;

/** Return the command that lists what a filter shows. */
function listCommand(filter: DeviceFilter): string {
  const options = NAMES.flatMap((name) => (filter[name] === undefined ? [] : [`--${name} ${quote(filter[name])}`]));
  return ["fleetward device list", ...options].join(" ");
}

export default function Devices() {
  const { sort = "id", ...filter } = useSearch({ from: "/signed/shell/devices" });
  const navigate = useNavigate();
  const [selection, setSelection] = useState<Selection>(emptySelection);
  const counts = useQuery({ ...countsQuery(filter), placeholderData: (before) => before });
  useCommand(listCommand(filter));

  // The same filter keeps one identity, whatever order the address names it in.
  const key = JSON.stringify(NAMES.map((name) => filter[name] ?? null));
  const steady = useMemo(() => filter, [key]); // eslint-disable-line react-hooks/exhaustive-deps -- key says all of it

  const change = (next: DeviceFilter) => {
    setSelection(emptySelection);
    void navigate({ to: "/devices", search: { ...next, ...(sort === "id" ? {} : { sort }) }, replace: true });
  };
  const isFiltered = NAMES.some((name) => filter[name] !== undefined);
  return (
    <Page
      title="Devices"
      lead={counts.data === undefined ? "Counting" : `${renderCount(counts.data.total, "device")}${isFiltered ? " match" : ""}`}
      actions={<SavedFilters filter={filter} onChoose={change} />}
    >
      <FilterBar filter={filter} counts={counts.data} onChange={change} />
      <Await query={counts} what="devices" permission="device.read">
        {({ total }) =>
          total === 0 ? (
            <div className="sheet">{isFiltered ? <NoMatch onClear={() => change({})} /> : <NoDevices />}</div>
          ) : (
            <>
              <BulkBar selection={selection} total={total} filter={filter} onClear={() => setSelection(emptySelection)} />
              <DeviceList
                filter={steady}
                sort={sort}
                total={total}
                selection={selection}
                onSelect={setSelection}
                onSort={(by) =>
                  void navigate({ to: "/devices", search: { ...filter, ...(by === "id" ? {} : { sort: by }) }, replace: true })
                }
              />
            </>
          )
        }
      </Await>
    </Page>
  );
}

function NoMatch({ onClear }: { onClear: () => void }) {
  return (
    <Empty title="No device matches">
      <p className="soft">Take a filter away, or search for another part of the name.</p>
      <Button variant="default" onClick={onClear}>
        Clear all filters
      </Button>
    </Empty>
  );
}

function NoDevices() {
  return (
    <Empty title="No devices yet">
      <p className="soft">Register one and give it its claim, or import a factory's signed shipment.</p>
      <Command label="the add command">fleetward device add sensor-1 --model sensor</Command>
      <Command label="the import command">fleetward device import shipment.json --trust-factory factory.pem</Command>
    </Empty>
  );
}
