import { Select, TextInput } from "@mantine/core";
import { useEffect, useState } from "react";

import type { Counts } from "../../api/types";
import { DeviceState } from "../../design/marks";
import type { DeviceFilter } from "./queries";

const STATES = ["registered", "enrolled", "active", "quarantined", "revoked", "retired"];

interface Props {
  filter: DeviceFilter;
  counts: Counts | undefined;
  onChange: (filter: DeviceFilter) => void;
}

export function FilterBar({ filter, counts, onChange }: Props) {
  const put = (name: keyof DeviceFilter, value: string | null) => {
    const others = Object.fromEntries(Object.entries(filter).filter(([other]) => other !== name));
    onChange(value === null || value === "" ? others : { ...others, [name]: value });
  };
  return (
    <div className="stack" role="search" aria-label="Filter devices">
      <div className="filters">
        <Search key={filter.search ?? ""} value={filter.search ?? ""} onChange={(value) => put("search", value)} />
        <Choice label="Model" value={filter.model} counts={counts?.by_model} onChange={(value) => put("model", value)} />
        <Choice label="Group" value={filter.group} counts={counts?.by_group} onChange={(value) => put("group", value)} />
        <Choice
          label="Firmware"
          value={filter.firmware}
          counts={counts?.by_firmware}
          onChange={(value) => put("firmware", value)}
        />
      </div>
      <div className="row tight" role="group" aria-label="State">
        {STATES.map((state) => (
          <button
            key={state}
            type="button"
            className="facet"
            aria-pressed={filter.state === state}
            onClick={() => put("state", filter.state === state ? null : state)}
          >
            <DeviceState state={state} /> {(counts?.by_state[state] ?? 0).toLocaleString("en")}
          </button>
        ))}
      </div>
    </div>
  );
}

function Search({ value, onChange }: { value: string; onChange: (value: string) => void }) {
  const [typed, setTyped] = useState(value);
  useEffect(() => {
    if (typed === value) return;
    const timer = setTimeout(() => onChange(typed), 250);
    return () => clearTimeout(timer);
  }, [typed, value, onChange]);
  return (
    <TextInput
      label="Search"
      placeholder="Part of the name"
      type="search"
      maxLength={64}
      value={typed}
      onChange={(event) => setTyped(event.currentTarget.value)}
    />
  );
}

function Choice({
  label,
  value,
  counts,
  onChange,
}: {
  label: string;
  value: string | undefined;
  counts: Record<string, number> | undefined;
  onChange: (value: string | null) => void;
}) {
  const names = new Set([...(value === undefined ? [] : [value]), ...Object.keys(counts ?? {})]);
  const options = [...names]
    .filter((name) => name !== "")
    .sort()
    .map((name) => ({ value: name, label: `${name} (${(counts?.[name] ?? 0).toLocaleString("en")})` }));
  return (
    <Select
      label={label}
      placeholder="Any"
      data={options}
      value={value ?? null}
      onChange={onChange}
      searchable={options.length > 8}
      clearable
      clearButtonProps={{ "aria-label": `Any ${label.toLowerCase()}` }}
      nothingFoundMessage="None"
    />
  );
}
