import { Button, Modal, TextInput } from "@mantine/core";
import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { type SubmitEvent, useState } from "react";

import { post } from "../../api/client";
import type { BulkReport } from "../../api/types";
import { Await, Command, Notice, ProblemNotice } from "../../design/parts";
import { capital, renderCount } from "../../design/time";
import { useMe, can } from "../../session/me";
import { quote } from "../../shell/commandline";
import type { DeviceFilter } from "./queries";
import { countSelected, type Selection } from "./selection";

const ACTIONS = ["quarantine", "release", "revoke", "retire"] as const;
type Action = (typeof ACTIONS)[number];

const EFFECT: Record<Action, string> = {
  quarantine: "Their sessions end within a second. Their certificates stay; releasing them is enough to return.",
  release: "They may open sessions again, if certificate and appraisal are good.",
  revoke: "Their certificates are revoked now, and their sessions end. There is no way back.",
  retire: "Their life ends here. They are kept for the record; there is no way back.",
};

interface Props {
  selection: Selection;
  total: number;
  filter: DeviceFilter;
  onClear: () => void;
}

export function BulkBar({ selection, total, filter, onClear }: Props) {
  const me = useMe();
  const [action, setAction] = useState<Action | null>(null);
  const count = countSelected(selection, total);
  if (count === 0) return null;
  return (
    <div className="bulk" role="region" aria-label="Selected devices">
      <strong>{renderCount(count, "device")} selected</strong>
      {ACTIONS.filter((one) => can(me, `device.${one}`)).map((one) => (
        <Button key={one} variant="default" onClick={() => setAction(one)}>
          {capital(one)}
        </Button>
      ))}
      <button type="button" className="chip" onClick={onClear}>
        Select none
      </button>
      <Modal
        opened={action !== null}
        onClose={() => setAction(null)}
        title={action === null ? "" : `${capital(action)} ${renderCount(count, "device")}?`}
      >
        {action !== null && (
          <BulkForm
            action={action}
            chosen={selection.all ? { filter } : { ids: [...selection.ids] }}
            onDone={() => {
              setAction(null);
              onClear();
            }}
          />
        )}
      </Modal>
    </div>
  );
}

type Chosen = { filter: DeviceFilter } | { ids: string[] };

function BulkForm({ action, chosen, onDone }: { action: Action; chosen: Chosen; onDone: () => void }) {
  const [reason, setReason] = useState("");
  const client = useQueryClient();
  const ask = (expected: number | null) =>
    post("/devices/bulk", {
      body: {
        action,
        ...chosen,
        reason: reason || "by an operator",
        // What was shown is what is done: if others have come to match meanwhile, the platform refuses.
        apply: expected !== null,
        expected,
      },
    });
  const preview = useQuery({ queryKey: ["bulk", action, chosen], queryFn: () => ask(null), staleTime: 0, retry: false });
  const act = useMutation({
    mutationFn: () => ask(preview.data?.will_change ?? 0),
    onSuccess: async () => {
      await client.invalidateQueries({ queryKey: ["devices"] });
      await client.invalidateQueries({ queryKey: ["counts"] });
      onDone();
    },
  });
  const submit = (event: SubmitEvent) => {
    event.preventDefault();
    act.mutate();
  };
  const isFinal = action === "revoke" || action === "retire";
  return (
    <form className="stack" onSubmit={submit}>
      <Notice tone={isFinal ? "bad" : "care"}>{EFFECT[action]}</Notice>
      <Await query={preview} what="the preview">
        {(report) => <Preview report={report} />}
      </Await>
      <TextInput
        label="Reason"
        description="Goes into the audit log"
        required={isFinal}
        maxLength={200}
        value={reason}
        onChange={(e) => setReason(e.currentTarget.value)}
      />
      <Command label="the same command">{bulkCommand(action, chosen, reason)}</Command>
      {act.isError && <ProblemNotice error={act.error} />}
      <Button
        type="submit"
        color={isFinal ? "danger" : "chart"}
        loading={act.isPending}
        disabled={preview.data === undefined || preview.data.will_change === 0}
      >
        {preview.data === undefined ? capital(action) : `${capital(action)} ${renderCount(preview.data.will_change, "device")}`}
      </Button>
    </form>
  );
}

function Preview({ report }: { report: BulkReport }) {
  return (
    <div className="stack">
      <p>
        <strong>{report.will_change.toLocaleString("en")}</strong> of {renderCount(report.matching, "device")} will change.
      </p>
      {report.skipped.length > 0 && (
        <details>
          <summary>{renderCount(report.skipped.length, "device stays as it is", "devices stay as they are")}</summary>
          <ul className="skipped">
            {report.skipped.slice(0, 50).map((one) => (
              <li key={one.id}>
                <span className="mono">{one.id}</span>: {one.why}
              </li>
            ))}
          </ul>
        </details>
      )}
    </div>
  );
}

function bulkCommand(action: Action, chosen: Chosen, reason: string): string {
  const which =
    "ids" in chosen
      ? chosen.ids.map((id) => `--id ${quote(id)}`).join(" ")
      : Object.entries(chosen.filter)
          .map(([name, value]) => `--${name} ${quote(value)}`)
          .join(" ") || "--all";
  return `fleetward device bulk ${action} ${which} --reason ${quote(reason || "by an operator")} --apply`;
}
