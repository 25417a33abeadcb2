import { useQuery } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";

import type { Release } from "../../api/types";
import { Ago } from "../../design/Ago";
import { Await, Command, Empty, Page, Sheet, TableFrame } from "../../design/parts";
import { renderBytes } from "../../design/time";
import { releasesQuery } from "./queries";
import { ReleaseState } from "./ReleaseState";

export default function Releases() {
  const releases = useQuery(releasesQuery);
  return (
    <Page
      title="Releases"
      lead="Signed firmware. Two operators other than its author approve a release before any device is offered it."
    >
      <Await query={releases} what="releases" permission="release.read">
        {(list) => (list.length === 0 ? <NoReleases /> : <Models releases={list} />)}
      </Await>
    </Page>
  );
}

function NoReleases() {
  return (
    <div className="sheet">
      <Empty title="Nothing published yet">
        <p className="soft">Publishing signs the image and records what it is made of. It asks for a CycloneDX document.</p>
        <Command label="the publish command">
          fleetward release publish camera.img --model camera --version 1.0.0 --sbom sbom.json
        </Command>
      </Empty>
    </div>
  );
}

function Models({ releases }: { releases: Release[] }) {
  const models = [...new Set(releases.map((one) => one.model))].sort();
  return models.map((model) => {
    const own = releases
      .filter((one) => one.model === model)
      .sort((a, b) => b.created_at.localeCompare(a.created_at));
    return (
      <Sheet key={model} title={model} aside={<Link to="/devices" search={{ model }}>its devices</Link>} bare>
        <TableFrame>
          <table>
            <thead>
              <tr>
                <th scope="col">Version</th>
                <th scope="col">State</th>
                <th scope="col">Approvals</th>
                <th scope="col" className="number">
                  Counter
                </th>
                <th scope="col" className="number">
                  Size
                </th>
                <th scope="col">Author</th>
                <th scope="col">Created</th>
                <th scope="col">Runs on</th>
              </tr>
            </thead>
            <tbody>
              {own.map((one) => (
                <tr key={one.version}>
                  <td className="mono">
                    <Link to="/releases/$model/$version" params={{ model, version: one.version }}>
                      {one.version}
                    </Link>
                  </td>
                  <td>
                    <ReleaseState state={one.state} />
                  </td>
                  <td>
                    {one.approvals.length} of {one.approvals_needed}
                  </td>
                  <td className="number">{one.security_counter}</td>
                  <td className="number">{renderBytes(one.length)}</td>
                  <td>{one.author.replace("operator:", "")}</td>
                  <td className="soft">
                    <Ago at={one.created_at} />
                  </td>
                  <td>
                    <Link to="/devices" search={{ model, firmware: one.version }}>
                      devices
                    </Link>
                  </td>
                </tr>
              ))}
            </tbody>
          </table>
        </TableFrame>
      </Sheet>
    );
  });
}
