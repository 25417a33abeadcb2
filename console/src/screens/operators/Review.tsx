import { Button, TextInput } from "@mantine/core";
import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { Link, useParams } from "@tanstack/react-router";
import { useState } from "react";

import { post } from "../../api/client";
import type { ReviewDetail, ReviewItem } from "../../api/types";
import { Ago } from "../../design/Ago";
import { State } from "../../design/marks";
import { Await, Page, ProblemNotice } from "../../design/parts";
import { can, useCan, useMe } from "../../session/me";
import { quote, useCommand } from "../../shell/commandline";
import { reviewQuery } from "./queries";
import { ReviewState } from "./Reviews";
import "./operators.css";

export default function Review() {
  const { id } = useParams({ from: "/signed/shell/reviews/$id" });
  const review = useQuery(reviewQuery(id));
  useCommand(`fleetward review show ${quote(id)}`);
  return (
    <Page
      title={review.data?.title ?? "Review"}
      lead={
        review.data && (
          <span className="row">
            <ReviewState review={review.data} />
            <span>
              {review.data.decided} of {review.data.total} decided, due <Ago at={review.data.due_at} />
            </span>
          </span>
        )
      }
      actions={review.data && <Actions review={review.data} />}
    >
      <Await query={review} what="this review" permission="review.read">
        {(found) => (
          <ul className="review-items">
            {found.items.map((item) => (
              <Item key={item.grant_id} review={found} item={item} />
            ))}
          </ul>
        )}
      </Await>
      <p>
        <Link to="/operators" search={{ part: "reviews" }}>
          All reviews
        </Link>
      </p>
    </Page>
  );
}

function Actions({ review }: { review: ReviewDetail }) {
  const client = useQueryClient();
  const mayClose = useCan("review.close");
  const close = useMutation({
    mutationFn: () => post("/reviews/{review_id}/close", { params: { path: { review_id: review.id } } }),
    onSuccess: () => client.invalidateQueries({ queryKey: ["reviews"] }),
  });
  return (
    <>
      {close.isError && <ProblemNotice error={close.error} />}
      {review.state === "open" && <span className="soft small">Removals take effect when it closes.</span>}
      <Button
        variant="default"
        component="a"
        href={`/api/v1/reviews/${encodeURIComponent(review.id)}/evidence`}
        download={`review-${review.id}.json`}
      >
        Export evidence
      </Button>
      {review.state === "open" && mayClose && (
        <Button loading={close.isPending} disabled={review.decided < review.total} onClick={() => close.mutate()}>
          Close the review
        </Button>
      )}
    </>
  );
}

function Item({ review, item }: { review: ReviewDetail; item: ReviewItem }) {
  const [note, setNote] = useState("");
  const me = useMe();
  const mayDecide = can(me, "review.decide");
  const client = useQueryClient();
  const decide = useMutation({
    mutationFn: (decision: "keep" | "remove") =>
      post("/reviews/{review_id}/items/{grant_id}", {
        params: { path: { review_id: review.id, grant_id: item.grant_id } },
        body: { decision, note },
      }),
    onSuccess: () => client.invalidateQueries({ queryKey: ["reviews"] }),
  });
  const isOwn = item.operator === me.name;
  const isOpen = review.state === "open" && item.decision === null && mayDecide;
  return (
    <li className="sheet review-item">
      <div>
        <h2>
          {item.operator}: {item.role} <span className="soft">in {item.group === "*" ? "all groups" : item.group}</span>
        </h2>
        <p className="soft small">
          Given <Ago at={item.given_at} />, last used <Ago at={item.last_used_at} fallback="never" />
        </p>
      </div>
      <div>
        {item.decision === null ? (
          <State tone={item.proposal === "remove" ? "care" : "info"} shape={item.proposal === "remove" ? "triangle" : "ring"}>
            proposed: {item.proposal}
          </State>
        ) : (
          <State tone={item.decision === "keep" ? "good" : "bad"} shape={item.decision === "keep" ? "check" : "cross"}>
            {item.decision}, says {item.decided_by?.replace("operator:", "")}
            {item.outcome !== null && ` (${item.outcome})`}
          </State>
        )}
        <p className="soft small">{item.decision === null ? item.why : item.note}</p>
      </div>
      {isOpen && isOwn && <p className="soft">Somebody else decides over your own right.</p>}
      {isOpen && !isOwn && (
        <div className="review-decide">
          <TextInput
            aria-label={`Note on ${item.role} of ${item.operator}`}
            placeholder="Note, for the evidence"
            maxLength={200}
            value={note}
            onChange={(e) => setNote(e.currentTarget.value)}
          />
          <Button variant={item.proposal === "keep" ? "filled" : "default"} loading={decide.isPending} onClick={() => decide.mutate("keep")}>
            Keep
          </Button>
          <Button variant={item.proposal === "remove" ? "filled" : "default"} loading={decide.isPending} onClick={() => decide.mutate("remove")}>
            Remove
          </Button>
        </div>
      )}
      {decide.isError && <ProblemNotice error={decide.error} />}
    </li>
  );
}
