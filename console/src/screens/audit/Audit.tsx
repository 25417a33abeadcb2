import { Button, TextInput } from "@mantine/core";
import { useInfiniteQuery } from "@tanstack/react-query";
import { useNavigate, useSearch } from "@tanstack/react-router";
import { type SubmitEvent, useState } from "react";

import { get } from "../../api/client";
import type { AuditEntry } from "../../api/types";
import { Ago } from "../../design/Ago";
import { Empty, Loading, Page, ProblemNotice, TableFrame } from "../../design/parts";
import { quote, useCommand } from "../../shell/commandline";
import { endOfDay, startOfDay } from "./days";
import { Verify } from "./Verify";
import "./audit.css";

const NAMES = ["actor", "device", "action", "since", "until"] as const;
type Filter = Partial<Record<(typeof NAMES)[number], string>>;
const PAGE = 200;

/** The filter as the API's parameters: days become moments. */
function asQuery({ since, until, ...exact }: Filter): Filter {
  return {
    ...exact,
    ...(since === undefined ? {} : { since: startOfDay(since) }),
    ...(until === undefined ? {} : { until: endOfDay(until) }),
  };
}

export default function Audit() {
  const filter: Filter = useSearch({ from: "/signed/shell/audit" });
  const asked = asQuery(filter);
  const options = NAMES.flatMap((name) => (asked[name] === undefined ? [] : [`--${name} ${quote(asked[name])}`]));
  useCommand(["fleetward audit search", ...options].join(" "));
  return (
    <Page title="Audit log" lead="Every change, by whom and when. Each entry is sealed into a Merkle tree; altering one shows.">
      <Verify />
      <FilterForm key={JSON.stringify(filter)} filter={filter} />
      <Entries filter={filter} />
    </Page>
  );
}

function FilterForm({ filter }: { filter: Filter }) {
  const [typed, setTyped] = useState(filter);
  const navigate = useNavigate();
  const put = (name: keyof Filter) => (event: { currentTarget: { value: string } }) =>
    setTyped({ ...typed, [name]: event.currentTarget.value });
  const submit = (event: SubmitEvent) => {
    event.preventDefault();
    void navigate({ to: "/audit", search: typed });
  };
  return (
    <form className="audit-filter" onSubmit={submit} role="search" aria-label="Search the audit log">
      <TextInput label="Who" placeholder="operator:ada" value={typed.actor ?? ""} onChange={put("actor")} />
      <TextInput label="Device" placeholder="cam-1" value={typed.device ?? ""} onChange={put("device")} />
      <TextInput label="Action" placeholder="device.revoked" value={typed.action ?? ""} onChange={put("action")} />
      <TextInput label="From" type="date" value={typed.since ?? ""} onChange={put("since")} />
      <TextInput label="To" type="date" value={typed.until ?? ""} onChange={put("until")} />
      <div className="row">
        <Button type="submit">Search</Button>
        {Object.keys(filter).length > 0 && (
          <Button variant="default" onClick={() => void navigate({ to: "/audit", search: {} })}>
            Clear
          </Button>
        )}
      </div>
    </form>
  );
}

interface AuditPage {
  entries: AuditEntry[];
  next_after: number | null;
}

function Entries({ filter }: { filter: Filter }) {
  const isFiltered = Object.keys(filter).length > 0;
  const query = asQuery(filter);
  const pages = useInfiniteQuery({
    queryKey: ["audit", filter],
    // The log is read forwards. Unfiltered, begin near its end: what people look for is what just happened.
    initialPageParam: null as number | null,
    queryFn: async ({ pageParam }): Promise<AuditPage> => {
      if (pageParam !== null || isFiltered) {
        return get("/audit/entries", { params: { query: { ...query, after: pageParam ?? -1, limit: PAGE } } });
      }
      const { head } = await get("/audit/checkpoints", { params: { query: { limit: 1 } } });
      return get("/audit/entries", { params: { query: { after: Math.max(-1, head.size - 1 - PAGE), limit: PAGE } } });
    },
    getNextPageParam: (last) => (isFiltered ? last.next_after : null),
    getPreviousPageParam: (first) => {
      const oldest = first.entries[0]?.sequence ?? 0;
      return isFiltered || oldest === 0 ? null : Math.max(-1, oldest - 1 - PAGE);
    },
  });
  if (pages.isPending) return <Loading what="the audit log" />;
  if (pages.isError) return <ProblemNotice error={pages.error} retry={() => void pages.refetch()} />;
  const bySequence = new Map(pages.data.pages.flatMap((page) => page.entries).map((entry) => [entry.sequence, entry]));
  const entries = [...bySequence.values()].sort((a, b) => b.sequence - a.sequence);
  if (entries.length === 0) {
    return (
      <div className="sheet">
        <Empty title="No entry matches">
          <p className="soft">Search for less, or for a wider time.</p>
        </Empty>
      </div>
    );
  }
  return (
    <div className="sheet">
      <Table entries={entries} />
      {pages.hasPreviousPage && (
        <footer>
          <Button variant="default" loading={pages.isFetchingPreviousPage} onClick={() => void pages.fetchPreviousPage()}>
            Show older entries
          </Button>
        </footer>
      )}
      {pages.hasNextPage && (
        <footer>
          <Button variant="default" loading={pages.isFetchingNextPage} onClick={() => void pages.fetchNextPage()}>
            Show later matches
          </Button>
        </footer>
      )}
    </div>
  );
}

function Table({ entries }: { entries: AuditEntry[] }) {
  return (
    <TableFrame>
      <table className="audit">
        <thead>
          <tr>
            <th scope="col" className="number">
              Entry
            </th>
            <th scope="col">When</th>
            <th scope="col">Who</th>
            <th scope="col">Action</th>
            <th scope="col">On</th>
            <th scope="col">Details</th>
          </tr>
        </thead>
        <tbody>
          {entries.map((entry) => (
            <tr key={entry.sequence}>
              <td className="number mono">{entry.sequence}</td>
              <td className="soft">
                <Ago at={entry.time} />
              </td>
              <td>{entry.actor}</td>
              <td className="mono">{entry.action}</td>
              <td className="wrap-any">{entry.subject}</td>
              <td>
                <details>
                  <summary>show</summary>
                  <pre>{JSON.stringify(entry.details, null, 2)}</pre>
                  <p className="small soft wrap-any">
                    leaf <code>{entry.leaf_hash}</code>
                  </p>
                </details>
              </td>
            </tr>
          ))}
        </tbody>
      </table>
    </TableFrame>
  );
}
