import { Button } from "@mantine/core";
import { useMutation } from "@tanstack/react-query";
import { type ReactNode, useEffect, useRef, useState } from "react";

import { post } from "../../api/client";
import type { Device } from "../../api/types";
import { State } from "../../design/marks";
import { Facts, ProblemNotice, Sheet } from "../../design/parts";
import { renderExact } from "../../design/time";
import { type PlayerState, playView } from "./player";
import "./video.css";

export default function Video({ device }: { device: Device }): ReactNode {
  const open = useMutation({
    mutationFn: () => post("/devices/{device_id}/views", { params: { path: { device_id: device.id } } }),
  });
  return (
    <Sheet title="Live video">
      <div className="player">
        {open.isError && <ProblemNotice error={open.error} />}
        {open.data !== undefined && <Player key={open.data.id} id={device.id} ticket={open.data.ticket} />}
        <p className="soft">
          A view opens only while the device holds a verified session, with a ticket that works once. It ends the moment the
          session does. Opening one is written to the audit log.
        </p>
        <div className="row">
          <Button loading={open.isPending} onClick={() => open.mutate()}>
            {open.data === undefined ? "Open a live view" : "Open a new view"}
          </Button>
        </div>
      </div>
    </Sheet>
  );
}

const PHASES = {
  opening: ["care", "half"],
  live: ["good", "disc"],
  ended: ["bad", "square"],
} as const;

function Player({ id, ticket }: { id: string; ticket: string }) {
  const video = useRef<HTMLVideoElement>(null);
  const [state, setState] = useState<PlayerState>({ phase: "opening", text: "Opening" });
  useEffect(() => {
    const element = video.current;
    if (element === null) return;
    let stop: (() => void) | undefined;
    // A ticket works once: React's double mount in development must not spend it.
    const timer = setTimeout(() => {
      stop = playView(element, ticket, (change) => setState((before) => ({ ...before, ...change })));
    }, 0);
    return () => {
      clearTimeout(timer);
      stop?.();
    };
  }, [ticket]);
  const [tone, shape] = PHASES[state.phase];
  return (
    <>
      <span role="status" data-video={state.phase}>
        <State tone={tone} shape={shape}>
          {state.text}
        </State>
      </span>
      {/* A device's camera has no captions to give. */}
      { }
      <video ref={video} muted autoPlay playsInline controls aria-label={`Live view of ${id}`} />
      <Facts
        of={[
          ["Behind", state.behindS === undefined ? "–" : `${state.behindS.toFixed(2)} s`],
          ["Ends", state.expiresAt === undefined ? "–" : renderExact(new Date(state.expiresAt))],
          ["Codec", state.codec ?? "–"],
        ]}
      />
    </>
  );
}
