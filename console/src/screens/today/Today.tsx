import { useQuery } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";

import { countsQuery, todayQuery } from "../../api/queries";
import type { Card } from "../../api/types";
import { Severity } from "../../design/marks";
import { Await, CopyButton, Empty, Page, Sheet } from "../../design/parts";
import { renderCount } from "../../design/time";
import { useCommand } from "../../shell/commandline";
import { FirstDeviceSteps } from "./FirstDevice";
import "./today.css";

export default function Today() {
  useCommand("fleetward overview today");
  const today = useQuery(todayQuery);
  const counts = useQuery(countsQuery({}));
  const isNew = counts.data?.total === 0;
  return (
    <Page title="Today" lead="Only what waits for a decision. When this page is empty, nothing does.">
      {isNew && (
        <Sheet title="Add your first device">
          <FirstDeviceSteps />
        </Sheet>
      )}
      <Await query={today} what="what waits for you">
        {({ cards }) => <Cards cards={cards} total={counts.data?.total} />}
      </Await>
    </Page>
  );
}

function Cards({ cards, total }: { cards: Card[]; total: number | undefined }) {
  if (cards.length === 0) {
    return total === 0 ? null : (
      <Sheet title="Nothing to decide" bare>
        <Empty title="The watch is quiet">
          <p className="soft">
            {total === undefined ? "No" : `${renderCount(total, "device")}, and no`} certificate, appraisal, approval, update,
            alert or review waits for you. This page fills itself when something does.
          </p>
          <Link to="/devices">Look at the devices</Link>
        </Empty>
      </Sheet>
    );
  }
  return (
    <ol className="decisions">
      {cards.map((card) => (
        <Decision key={card.kind} card={card} />
      ))}
    </ol>
  );
}

function Decision({ card }: { card: Card }) {
  const more = card.count - card.items.length;
  return (
    <li className={`decision is-${card.severity}`}>
      <div className="decision-head">
        <strong className="decision-count">{card.count.toLocaleString("en")}</strong>
        <div>
          <h2>{card.title}</h2>
          <Severity severity={card.severity} />
        </div>
      </div>
      <ul className="decision-items">
        {card.items.map((item) => (
          <li key={`${item.href} ${item.label}`}>
            <Link to={item.href}>{item.label}</Link>
          </li>
        ))}
        {more > 0 && <li className="soft">and {more.toLocaleString("en")} more</li>}
      </ul>
      <div className="command">
        {/* eslint-disable-next-line jsx-a11y/no-noninteractive-tabindex -- the keyboard must reach its end */}
        <code tabIndex={0}>{card.command}</code>
        <CopyButton text={card.command} label={`command for ${card.title}`} />
      </div>
    </li>
  );
}
