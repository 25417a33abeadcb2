/** What every screen is made of. */

import type { UseQueryResult } from "@tanstack/react-query";
import { type ReactNode, useEffect, useState } from "react";

import { isForbidden, Problem } from "../api/problem";
import { Mark, type Shape, type Tone } from "./marks";

export function Page({
  title,
  lead,
  actions,
  children,
}: {
  title: string;
  lead?: ReactNode;
  actions?: ReactNode;
  children: ReactNode;
}) {
  useEffect(() => {
    document.title = `${title} · Fleetward`;
  }, [title]);
  return (
    <div className="page">
      <div className="page-head">
        <div>
          <h1>{title}</h1>
          {lead !== undefined && <p>{lead}</p>}
        </div>
        {actions !== undefined && <div className="row">{actions}</div>}
      </div>
      {children}
    </div>
  );
}

export function Sheet({
  title,
  aside,
  children,
  bare = false,
}: {
  title: ReactNode;
  aside?: ReactNode;
  children: ReactNode;
  bare?: boolean;
}) {
  return (
    <section className="sheet">
      <header>
        <h2>{title}</h2>
        {aside}
      </header>
      {bare ? children : <div className="inside">{children}</div>}
    </section>
  );
}

export function Facts({ of }: { of: [string, ReactNode][] }) {
  return (
    <dl className="facts">
      {of.map(([term, value]) => (
        <FactRow key={term} term={term} value={value} />
      ))}
    </dl>
  );
}

function FactRow({ term, value }: { term: string; value: ReactNode }) {
  return (
    <>
      <dt>{term}</dt>
      <dd>{value ?? "–"}</dd>
    </>
  );
}

/** A table that scrolls sideways where the screen is narrow; the keyboard reaches it to do so. */
export function TableFrame({ children }: { children: ReactNode }) {
  return (
    // eslint-disable-next-line jsx-a11y/no-noninteractive-tabindex
    <div className="table-frame" role="group" aria-label="Table" tabIndex={0}>
      {children}
    </div>
  );
}

const NOTICE_SHAPE: Record<Tone, Shape> = {
  good: "check",
  care: "triangle",
  bad: "square",
  info: "ring",
  soft: "ring",
};

export function Notice({ tone, title, children }: { tone: Tone; title?: ReactNode; children?: ReactNode }) {
  return (
    <div className={`notice tone-${tone}`} role={tone === "bad" ? "alert" : "status"}>
      <Mark shape={NOTICE_SHAPE[tone]} />
      <div>
        {title !== undefined && <strong>{title}</strong>}
        {children}
      </div>
    </div>
  );
}

export function Command({ children, label = "command" }: { children: string; label?: string }) {
  return (
    <div className="command">
      {/* A command may be longer than the screen is wide: the keyboard must reach its end. */}
      {/* eslint-disable-next-line jsx-a11y/no-noninteractive-tabindex */}
      <code tabIndex={0}>{children}</code>
      <CopyButton text={children} label={label} />
    </div>
  );
}

export function CopyButton({ text, label }: { text: string; label: string }) {
  const [isDone, setIsDone] = useState(false);
  useEffect(() => {
    if (!isDone) return;
    const timer = setTimeout(() => setIsDone(false), 2000);
    return () => clearTimeout(timer);
  }, [isDone]);
  return (
    <button
      type="button"
      aria-label={`Copy ${label}`}
      onClick={async () => {
        await navigator.clipboard.writeText(text);
        setIsDone(true);
      }}
    >
      <span aria-live="polite">{isDone ? "Copied" : "Copy"}</span>
    </button>
  );
}

export function Loading({ what }: { what: string }) {
  return (
    <div className="bars" role="status">
      <span className="visually-hidden">Loading {what}</span>
      {[1, 2, 3, 4, 5].map((bar) => (
        <span key={bar} aria-hidden="true" />
      ))}
    </div>
  );
}

export function Empty({ title, children }: { title: string; children?: ReactNode }) {
  return (
    <div className="empty">
      <h2>{title}</h2>
      {children}
    </div>
  );
}

export function ProblemNotice({ error, retry }: { error: unknown; retry?: () => void }) {
  const problem = error instanceof Problem ? error : null;
  return (
    <Notice tone="bad" title={problem?.message ?? "The console failed here."}>
      {problem?.hint != null && <span>{problem.hint}</span>}
      {problem === null && <span>{error instanceof Error ? error.message : String(error)}</span>}
      {retry !== undefined && (
        <span>
          <button type="button" className="chip" onClick={retry}>
            Try again
          </button>
        </span>
      )}
    </Notice>
  );
}

export function NoPermission({ what, permission }: { what: string; permission?: string }) {
  return (
    <Empty title={`You may not see ${what}`}>
      <p className="soft">
        {permission === undefined ? "Your roles do" : <>None of your roles has <code>{permission}</code>, so they do</>} not
        include this. An administrator can give you a role that does:
      </p>
      <Command>fleetward operator role NAME --give ROLE@GROUP</Command>
    </Empty>
  );
}

/** Shows what a query found, or why it did not. */
export function Await<T>({
  query,
  what,
  permission,
  children,
}: {
  query: UseQueryResult<T>;
  what: string;
  permission?: string;
  children: (found: T) => ReactNode;
}) {
  if (query.data !== undefined) return children(query.data);
  if (query.isPending) return <Loading what={what} />;
  if (isForbidden(query.error)) {
    return <NoPermission what={what} {...(permission === undefined ? {} : { permission })} />;
  }
  return (
    <div className="inside">
      <ProblemNotice error={query.error} retry={() => void query.refetch()} />
    </div>
  );
}
