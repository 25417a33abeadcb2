/** 100,000 rows: only those on the screen exist, and only their pages are asked for. */

import { useMediaQuery } from "@mantine/hooks";
import { useQueries } from "@tanstack/react-query";
import { useVirtualizer } from "@tanstack/react-virtual";
import { type Dispatch, type KeyboardEvent, type SetStateAction, useCallback, useEffect, useRef, useState } from "react";

import type { Device } from "../../api/types";
import { ProblemNotice } from "../../design/parts";
import { type DeviceFilter, devicePageQuery, PAGE_ROWS } from "./queries";
import { DeviceRow } from "./DeviceRow";
import { emptySelection, isSelected, type Selection, toggle } from "./selection";

const COLUMNS: { name: string; sort: string | null }[] = [
  { name: "Device", sort: "id" },
  { name: "State", sort: "state" },
  { name: "Model", sort: "model" },
  { name: "Group", sort: "group" },
  { name: "Firmware", sort: "firmware" },
  { name: "Key", sort: null },
  { name: "Changed", sort: "changed" },
];
const ROW_PX = 40;
const NARROW_ROW_PX = 66;

interface Props {
  filter: DeviceFilter;
  sort: string;
  total: number;
  selection: Selection;
  onSelect: Dispatch<SetStateAction<Selection>>;
  onSort: (by: string) => void;
}

export function DeviceList({ filter, sort, total, selection, onSelect, onSort }: Props) {
  const frame = useRef<HTMLDivElement>(null);
  const [active, setActive] = useState(0);
  // Whether the active row is to have the focus: one jumped to may not be loaded yet, and takes it when it is.
  const [holdsFocus, setHoldsFocus] = useState(false);
  const isNarrow = useMediaQuery("(max-width: 860px)");
  // eslint-disable-next-line react-hooks/incompatible-library -- no compiler memoizes this component
  const rows = useVirtualizer({
    count: total,
    getScrollElement: () => frame.current,
    estimateSize: () => (isNarrow ? NARROW_ROW_PX : ROW_PX),
    overscan: 8,
  });
  useEffect(() => rows.measure(), [rows, isNarrow]);
  const shown = rows.getVirtualItems();
  const { find, error } = usePages(filter, sort, shown[0]?.index ?? 0, shown.at(-1)?.index ?? 0);

  const onToggle = useCallback((id: string) => onSelect((before) => toggle(before, id)), [onSelect]);
  const focusRow = (index: number) => {
    const wanted = Math.max(0, Math.min(total - 1, index));
    setActive(wanted);
    setHoldsFocus(true);
    rows.scrollToIndex(wanted);
  };
  const onKeyDown = (event: KeyboardEvent) => {
    const page = Math.max(1, shown.length - 10);
    const step = { ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page, Home: -total, End: total }[event.key];
    const device = find(active);
    if (step !== undefined) {
      event.preventDefault();
      focusRow(active + step);
    } else if (event.key === " " && device !== undefined) {
      event.preventDefault();
      onToggle(device.id);
    }
  };

  return (
    <div className="sheet device-grid" role="grid" aria-label="Devices" aria-rowcount={total + 1}>
      {error !== null && <ProblemNotice error={error} />}
      <Head sort={sort} selection={selection} onSelect={onSelect} onSort={onSort} />
      {/* eslint-disable-next-line jsx-a11y/no-noninteractive-element-interactions -- its rows take the focus */}
      <div
        ref={frame}
        className="device-scroll"
        role="rowgroup"
        onKeyDown={onKeyDown}
        onBlur={(event) => setHoldsFocus(event.relatedTarget === null)}
      >
        <div role="presentation" className="device-canvas" style={{ height: rows.getTotalSize() }}>
          {shown.map((row) => (
            <DeviceRow
              key={row.key}
              index={row.index}
              top={row.start}
              height={row.size}
              device={find(row.index)}
              isActive={row.index === active}
              takesFocus={holdsFocus && row.index === active}
              isSelected={isSelected(selection, find(row.index)?.id ?? "")}
              onFocus={setActive}
              onToggle={onToggle}
            />
          ))}
        </div>
      </div>
    </div>
  );
}

/** Ask for the pages that hold rows `first` to `last`. */
function usePages(filter: DeviceFilter, sort: string, first: number, last: number) {
  const from = Math.floor(first / PAGE_ROWS);
  const pages = Array.from({ length: Math.floor(last / PAGE_ROWS) - from + 1 }, (_, n) => from + n);
  const answers = useQueries({
    queries: pages.map((page) => devicePageQuery(filter, sort, page)),
    combine: useCallback(
      (found: { data?: { devices: Device[] } | undefined; error: Error | null }[]) => ({
        data: found.map((one) => one.data?.devices),
        error: found.find((one) => one.error !== null)?.error ?? null,
      }),
      [],
    ),
  });
  const find = (index: number): Device | undefined =>
    answers.data[Math.floor(index / PAGE_ROWS) - from]?.[index % PAGE_ROWS];
  return { find, error: answers.error };
}

function Head({ sort, selection, onSelect, onSort }: Pick<Props, "sort" | "selection" | "onSelect" | "onSort">) {
  const isDescending = sort.startsWith("-");
  const by = sort.replace("-", "");
  return (
    <div role="rowgroup">
      <div role="row" aria-rowindex={1} className="device-row device-head">
        <span role="columnheader">
          <input
            type="checkbox"
            aria-label="Select all that match"
            checked={selection.all}
            onChange={(event) => onSelect(event.currentTarget.checked ? { all: true } : emptySelection)}
          />
        </span>
        {COLUMNS.map((column) => (
          <span
            key={column.name}
            role="columnheader"
            aria-sort={by === column.sort ? (isDescending ? "descending" : "ascending") : undefined}
          >
            {column.sort === null ? (
              column.name
            ) : (
              <button
                type="button"
                onClick={() => onSort(by === column.sort && !isDescending ? `-${by}` : (column.sort ?? "id"))}
              >
                {column.name}
                <span aria-hidden="true">{by === column.sort ? (isDescending ? " ↓" : " ↑") : ""}</span>
              </button>
            )}
          </span>
        ))}
      </div>
    </div>
  );
}
