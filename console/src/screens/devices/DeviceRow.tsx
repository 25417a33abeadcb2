import { Link } from "@tanstack/react-router";
import { memo } from "react";

import type { Device } from "../../api/types";
import { Ago } from "../../design/Ago";
import { DeviceState } from "../../design/marks";

interface Props {
  index: number;
  top: number;
  height: number;
  device: Device | undefined;
  isActive: boolean;
  isSelected: boolean;
  onFocus: (index: number) => void;
  onToggle: (id: string) => void;
}

/** Drawn anew only when what it shows changed: while scrolling, its neighbours change all the time. */
export const DeviceRow = memo(function DeviceRow(props: Props) {
  const { index, top, height, device, isActive, isSelected, onFocus, onToggle } = props;
  return (
    <div
      role="row"
      aria-rowindex={index + 2}
      aria-selected={isSelected}
      data-index={index}
      className="device-row"
      style={{ height, transform: `translateY(${top}px)` }}
    >
      {device === undefined ? (
        <span role="gridcell" className="device-waits">
          <span className="visually-hidden">Loading</span>
        </span>
      ) : (
        <Cells device={device} isActive={isActive} isSelected={isSelected} onFocus={() => onFocus(index)} onToggle={onToggle} />
      )}
    </div>
  );
});

function Cells({
  device,
  isActive,
  isSelected,
  onFocus,
  onToggle,
}: Pick<Props, "isActive" | "isSelected" | "onToggle"> & { device: Device; onFocus: () => void }) {
  return (
    <>
      <span role="gridcell" className="cell-check">
        <input
          type="checkbox"
          tabIndex={-1}
          aria-label={`Select ${device.id}`}
          checked={isSelected}
          onChange={() => onToggle(device.id)}
        />
      </span>
      <span role="gridcell" className="cell-id mono">
        <Link
          to="/devices/$id"
          params={{ id: device.id }}
          preload={false}
          tabIndex={isActive ? 0 : -1}
          onFocus={onFocus}
        >
          {device.id}
        </Link>
      </span>
      <span role="gridcell" className="cell-state">
        <DeviceState state={device.state} />
      </span>
      <span role="gridcell">{device.model}</span>
      <span role="gridcell">{device.group}</span>
      <span role="gridcell" className="mono">
        {device.firmware_version ?? <span className="soft">none</span>}
      </span>
      <span role="gridcell">{device.tier ?? <span className="soft">none</span>}</span>
      <span role="gridcell" className="soft cell-time">
        <Ago at={device.state_changed_at} />
      </span>
    </>
  );
}
