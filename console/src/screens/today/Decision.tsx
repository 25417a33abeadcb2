import { useMutation, useQueryClient } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";

import { post } from "../../api/client";
import type { Card } from "../../api/types";
import { Ago } from "../../design/Ago";
import { Severity } from "../../design/marks";
import { Command, ProblemNotice } from "../../design/parts";
import { useCan } from "../../session/me";

const SHOWN = 5;

/** One kind of thing that waits, what of it, and the command that lists it. */
export function Decision({ card }: { card: Card }) {
  const shown = card.items.slice(0, SHOWN);
  const more = card.count - shown.length;
  return (
    <li className={`decision is-${card.severity}`}>
      <div className="decision-head">
        <h2>{card.title}</h2>
        <Severity severity={card.severity} />
      </div>
      <ul className="decision-items">
        {shown.map((item) => (
          <Item key={`${item.event ?? ""} ${item.label}`} item={item} />
        ))}
        {more > 0 && <li className="soft">and {more.toLocaleString("en")} more</li>}
      </ul>
      <Command label={`command for ${card.title}`}>{card.command}</Command>
    </li>
  );
}

function Item({ item }: { item: Card["items"][number] }) {
  const mayAcknowledge = useCan("event.acknowledge");
  const client = useQueryClient();
  const acknowledge = useMutation({
    mutationFn: (number: number) => post("/events/{number}/acknowledge", { params: { path: { number } }, body: {} }),
    onSuccess: () => client.invalidateQueries({ queryKey: ["today"] }),
  });
  const { event } = item;
  return (
    <li>
      <span>
        {item.href ? <Link to={item.href}>{item.label}</Link> : item.label}{" "}
        {item.at !== null && (
          <span className="soft small">
            <Ago at={item.at} />
          </span>
        )}
      </span>
      {event !== null && mayAcknowledge && (
        <button
          type="button"
          className="chip"
          disabled={acknowledge.isPending}
          aria-label={`Acknowledge: ${item.label}`}
          onClick={() => acknowledge.mutate(event)}
        >
          Acknowledge
        </button>
      )}
      {acknowledge.isError && <ProblemNotice error={acknowledge.error} />}
    </li>
  );
}
