import { Button } from "@mantine/core";
import { useMutation } from "@tanstack/react-query";

import { get } from "../../api/client";
import { Problem } from "../../api/problem";
import { Command, Notice, ProblemNotice } from "../../design/parts";
import { renderCount } from "../../design/time";

export function Verify() {
  const verify = useMutation({ mutationFn: () => get("/audit/verify") });
  return (
    <section className="sheet verify" aria-label="Verify the log">
      <div className="row apart">
        <p>
          Verifying computes every hash anew and compares it with the signed checkpoints. Do it off this machine too, now and
          then.
        </p>
        <Button loading={verify.isPending} onClick={() => verify.mutate()}>
          Verify the log
        </Button>
      </div>
      <Command label="the offline command">fleetward audit export log.jsonl && fleetward audit verify --file log.jsonl</Command>
      {verify.isSuccess && (
        <Notice tone="good" title={`Verified: ${renderCount(verify.data.entries, "entry", "entries")}, none altered`}>
          <span>
            Root <code className="wrap-any">{verify.data.root}</code>
          </span>
        </Notice>
      )}
      {verify.isError &&
        (verify.error instanceof Problem && verify.error.code === "audit_tampered" ? (
          <Notice tone="bad" title="The log was altered">
            <span>{verify.error.message}</span>
            <span>Keep a copy of the database as it is, and compare it with your last export.</span>
          </Notice>
        ) : (
          <ProblemNotice error={verify.error} />
        ))}
    </section>
  );
}
