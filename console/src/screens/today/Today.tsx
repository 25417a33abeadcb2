import { useQuery } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";

import type { Card } from "../../api/types";
import { Await, Empty, Page, Sheet } from "../../design/parts";
import { renderCount } from "../../design/time";
import { countsQuery } from "../devices/queries";
import { todayQuery } from "./queries";
import { Decision } from "./Decision";
import { FirstDeviceSteps } from "./FirstDevice";
import "./today.css";

export default function Today() {
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
