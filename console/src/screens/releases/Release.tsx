import { Button } from "@mantine/core";
import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { Link, useParams } from "@tanstack/react-router";
import { useState } from "react";

import { post } from "../../api/client";
import type { Release as ReleaseView } from "../../api/types";
import { Ago } from "../../design/Ago";
import { Mark } from "../../design/marks";
import { Await, Command, Facts, Notice, Page, ProblemNotice, Sheet } from "../../design/parts";
import { ReasonDialog } from "../../design/ReasonDialog";
import { renderBytes, renderCount } from "../../design/time";
import { can, useMe } from "../../session/me";
import { quote, useCommand } from "../../shell/commandline";
import { countsQuery } from "../devices/queries";
import { releaseQuery } from "./queries";
import { ReleaseState } from "./ReleaseState";

export default function Release() {
  const { model, version } = useParams({ from: "/signed/shell/releases/$model/$version" });
  const release = useQuery(releaseQuery(model, version));
  useCommand(
    release.data?.state === "pending"
      ? `fleetward release approve ${quote(model)} ${quote(version)}`
      : `fleetward release list --model ${quote(model)}`,
  );
  return (
    <Page
      title={`${model} ${version}`}
      lead={release.data && <ReleaseState state={release.data.state} />}
      actions={release.data && <Actions release={release.data} />}
    >
      <Await query={release} what="this release" permission="release.read">
        {(found) => (
          <div className="columns">
            <div className="stack wide">
              <Approvals release={found} />
              <Rollout release={found} />
            </div>
            <Content release={found} />
          </div>
        )}
      </Await>
    </Page>
  );
}

/** Who approved, and how many still have to: nobody approves their own, nobody twice. */
function Approvals({ release }: { release: ReleaseView }) {
  const me = useMe();
  const client = useQueryClient();
  const approve = useMutation({
    mutationFn: () =>
      post("/releases/{model}/{version}/approve", {
        params: { path: { model: release.model, version: release.version } },
      }),
    onSuccess: async () => client.invalidateQueries({ queryKey: ["releases"] }),
  });
  const isPending = release.state === "pending";
  const isAuthor = release.author === `operator:${me.name}`;
  const hasApproved = release.approvals.some((one) => one.operator === me.name || one.operator === `operator:${me.name}`);
  const open = Math.max(0, release.approvals_needed - release.approvals.length);
  return (
    <Sheet title={`Approvals, ${release.approvals.length} of ${release.approvals_needed}`}>
      <div className="stack">
        <ol className="stack">
          <li className="state tone-info">
            <Mark shape="square" /> {release.author.replace("operator:", "")} wrote it
          </li>
          {release.approvals.map((one) => (
            <li key={one.operator} className="row tight">
              <span className="state tone-good">
                <Mark shape="check" /> {one.operator.replace("operator:", "")} approved
              </span>
              <span className="soft">
                <Ago at={one.at} />
              </span>
            </li>
          ))}
          {isPending &&
            Array.from({ length: open }, (_, index) => (
              <li key={index} className="state tone-soft">
                <Mark shape="ring" /> somebody else’s approval
              </li>
            ))}
        </ol>
        {approve.isError && <ProblemNotice error={approve.error} />}
        {isPending && isAuthor && <Notice tone="info">You wrote this release: two others have to approve it.</Notice>}
        {isPending && hasApproved && <Notice tone="good">You approved it. Somebody else has to, too.</Notice>}
        {isPending && !isAuthor && !hasApproved && can(me, "release.approve") && (
          <>
            <Notice tone="care" title="What your approval does">
              With the last one, the release is signed and offered to every device of {release.model}.
            </Notice>
            <div className="row">
              <Button loading={approve.isPending} onClick={() => approve.mutate()}>
                Approve {release.version}
              </Button>
            </div>
          </>
        )}
        {isPending && !can(me, "release.approve") && (
          <Notice tone="info">Approving takes the role release-manager or security-officer.</Notice>
        )}
      </div>
    </Sheet>
  );
}

function Rollout({ release }: { release: ReleaseView }) {
  const all = useQuery(countsQuery({ model: release.model }));
  if (all.data === undefined) return null;
  const { total, by_firmware } = all.data;
  const running = by_firmware[release.version] ?? 0;
  const share = total === 0 ? 0 : running / total;
  return (
    <Sheet title="Rollout" aside={<Link to="/devices" search={{ model: release.model, firmware: release.version }}>these devices</Link>}>
      <div className="stack">
        <p>
          {running.toLocaleString("en")} of {renderCount(total, "device")} run it.
        </p>
        <progress className="share" max={1} value={share} aria-label={`Share of devices that run ${release.version}`} />
        <Facts
          of={Object.entries(by_firmware)
            .sort(([, a], [, b]) => b - a)
            .slice(0, 8)
            .map(([version, count]) => [version === "" ? "none reported" : version, count.toLocaleString("en")])}
        />
      </div>
    </Sheet>
  );
}

function Content({ release }: { release: ReleaseView }) {
  const base = `/api/v1/releases/${encodeURIComponent(release.model)}/${encodeURIComponent(release.version)}`;
  return (
    <Sheet title="What it is">
      <div className="stack">
        <Facts
          of={[
            ["Author", release.author.replace("operator:", "")],
            ["Created", <Ago key="c" at={release.created_at} />],
            ["Published", <Ago key="p" at={release.published_at} />],
            ["Withdrawn", release.withdrawn_at && <><Ago at={release.withdrawn_at} />: {release.withdrawn_reason}</>],
            ["Security counter", release.security_counter],
            ["Size", renderBytes(release.length)],
            ["Image SHA-256", <code key="s">{release.sha256}</code>],
            ["SBOM SHA-256", <code key="b">{release.sbom_sha256}</code>],
          ]}
        />
        <ul className="row">
          <li>
            <a href={`${base}/sbom`} download={`${release.model}-${release.version}.cdx.json`}>
              Bill of materials
            </a>
          </li>
          <li>
            <a href={`${base}/manifest`} download={`${release.model}-${release.version}.manifest.json`}>
              Signed manifest
            </a>
          </li>
        </ul>
      </div>
    </Sheet>
  );
}

function Actions({ release }: { release: ReleaseView }) {
  const me = useMe();
  const client = useQueryClient();
  const [verb, setVerb] = useState<"withdraw" | "reject" | null>(null);
  const act = (reason: string) =>
    post(`/releases/{model}/{version}/${verb ?? "withdraw"}`, {
      params: { path: { model: release.model, version: release.version } },
      body: { reason },
    });
  return (
    <>
      {release.state === "published" && can(me, "release.withdraw") && (
        <Button variant="default" onClick={() => setVerb("withdraw")}>
          Withdraw
        </Button>
      )}
      {release.state === "pending" && can(me, "release.approve") && (
        <Button variant="default" onClick={() => setVerb("reject")}>
          Reject
        </Button>
      )}
      <ReasonDialog
        isOpen={verb !== null}
        title={verb === "reject" ? `Reject ${release.version}?` : `Withdraw ${release.version}?`}
        effect={
          verb === "reject"
            ? "The release will never be published. Its author can publish a new version."
            : "No device is offered it any more. Devices that run it keep running it and go on attesting well; only withdrawing its reference makes them fail."
        }
        verb={verb === "reject" ? "Reject" : "Withdraw"}
        act={act}
        onClose={() => setVerb(null)}
        onDone={async () => {
          setVerb(null);
          await client.invalidateQueries({ queryKey: ["releases"] });
        }}
      >
        <Command label="the same command">
          {`fleetward release ${verb ?? "withdraw"} ${quote(release.model)} ${quote(release.version)} --reason REASON`}
        </Command>
      </ReasonDialog>
    </>
  );
}
