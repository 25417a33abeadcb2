import { useMutation, useQueryClient } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";

import { post } from "../../api/client";
import type { Card } from "../../api/types";
import { Ago } from "../../design/Ago";
import { Severity } from "../../design/marks";
import { Command, ProblemNotice } from "../../design/parts";
import { useCan } from "../../session/me";

/** One kind of thing that waits, what of it, and the command that lists it. */
export function Decision({ card }: { card: Card }) {
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
    mutationFn: (number: number) => post("/events/{number}/acknowledge", { path: { number }, body: {} }),
    onSuccess: () => client.invalidateQueries({ queryKey: ["today"] }),
  });
  const { event } = item;
  return (
    <li>
      {item.href ? <Link to={item.href}>{item.label}</Link> : <span>{item.label}</span>}
      {item.at !== null && (
        <span className="soft small">
          {" "}
          <Ago at={item.at} />
        </span>
      )}
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
