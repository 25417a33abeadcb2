import { Button } from "@mantine/core";
import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { useState } from "react";

import { post } from "../../api/client";
import type { BreakGlass } from "../../api/types";
import { Ago } from "../../design/Ago";
import { type Shape, State, type Tone } from "../../design/marks";
import { Await, Command, Empty, ProblemNotice, Sheet } from "../../design/parts";
import { ReasonDialog } from "../../design/ReasonDialog";
import { can, useMe } from "../../session/me";
import { breakGlassQuery } from "./queries";

export function BreakGlassPart() {
  const list = useQuery(breakGlassQuery);
  const me = useMe();
  const client = useQueryClient();
  const [isOpen, setIsOpen] = useState(false);
  const again = () => client.invalidateQueries({ queryKey: ["break-glass"] });
  return (
    <Sheet
      title="Break-glass"
      aside={
        can(me, "break_glass.request") && (
          <Button variant="default" onClick={() => setIsOpen(true)}>
            Ask for emergency access
          </Button>
        )
      }
      bare
    >
      <Await query={list} what="emergencies" permission="break_glass.read">
        {(found) =>
          found.length === 0 ? (
            <Empty title="The glass is whole">
              <p className="soft">
                In an emergency, one person asks with a reason and another agrees. For 30 minutes the first may do everything;
                everybody is told, and a review has to follow.
              </p>
            </Empty>
          ) : (
            <ul className="emergencies">
              {found.map((one) => (
                <Emergency key={one.id} one={one} onChange={again} />
              ))}
            </ul>
          )
        }
      </Await>
      <ReasonDialog
        isOpen={isOpen}
        title="Ask for emergency access?"
        effect="Once another agrees, you hold every right for 30 minutes. Everybody is alerted, and what you did will be reviewed."
        verb="Ask"
        act={(reason) => post("/break-glass", { body: { reason } })}
        onClose={() => setIsOpen(false)}
        onDone={async () => {
          setIsOpen(false);
          await again();
        }}
      >
        <Command label="the same command">fleetward break-glass request --reason REASON</Command>
      </ReasonDialog>
    </Sheet>
  );
}

const STATES: Record<string, [Tone, Shape]> = {
  requested: ["care", "half"],
  active: ["bad", "square"],
  ended: ["care", "clock"],
  lapsed: ["soft", "dash"],
  reviewed: ["good", "check"],
};

function Emergency({ one, onChange }: { one: BreakGlass; onChange: () => Promise<void> }) {
  const me = useMe();
  const [isReviewing, setIsReviewing] = useState(false);
  const act = useMutation({
    mutationFn: (verb: "approve" | "end") => post(`/break-glass/{glass_id}/${verb}`, { params: { path: { glass_id: one.id } } }),
    onSuccess: onChange,
  });
  const [tone, shape] = STATES[one.state] ?? ["soft", "ring"];
  const isOwn = one.requester.replace("operator:", "") === me.name;
  return (
    <li>
      <div className="row apart">
        <State tone={tone} shape={shape}>
          {one.state}
        </State>
        <span className="soft small">
          {one.requester.replace("operator:", "")}, <Ago at={one.requested_at} />
          {one.approver !== null && `, agreed by ${one.approver.replace("operator:", "")}`}
        </span>
      </div>
      <p>{one.reason}</p>
      {one.findings && <p className="soft">Review: {one.findings}</p>}
      {act.isError && <ProblemNotice error={act.error} />}
      <div className="row">
        {one.state === "requested" && !isOwn && can(me, "break_glass.approve") && (
          <Button loading={act.isPending} onClick={() => act.mutate("approve")}>
            Agree
          </Button>
        )}
        {one.state === "active" && (
          <Button variant="default" loading={act.isPending} onClick={() => act.mutate("end")}>
            End it now
          </Button>
        )}
        {one.state === "ended" && !isOwn && can(me, "break_glass.review") && (
          <Button onClick={() => setIsReviewing(true)}>Review it</Button>
        )}
      </div>
      <ReasonDialog
        isOpen={isReviewing}
        title="What was found?"
        effect="Say what was done with the emergency rights, and whether it was needed."
        verb="Close with these findings"
        act={(findings) => post("/break-glass/{glass_id}/review", { params: { path: { glass_id: one.id } }, body: { findings } })}
        onClose={() => setIsReviewing(false)}
        onDone={async () => {
          setIsReviewing(false);
          await onChange();
        }}
      />
    </li>
  );
}
