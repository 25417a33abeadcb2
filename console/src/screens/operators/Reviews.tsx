import { Button, Modal, Select, TextInput } from "@mantine/core";
import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { Link, useNavigate } from "@tanstack/react-router";
import { type SubmitEvent, useState } from "react";

import { post } from "../../api/client";
import type { Review } from "../../api/types";
import { Ago } from "../../design/Ago";
import { State } from "../../design/marks";
import { Await, Command, Empty, ProblemNotice, Sheet, TableFrame } from "../../design/parts";
import { useCan } from "../../session/me";
import { quote } from "../../shell/commandline";
import { reviewsQuery } from "./queries";

export function Reviews() {
  const reviews = useQuery(reviewsQuery);
  const mayStart = useCan("review.start");
  const [isOpen, setIsOpen] = useState(false);
  return (
    <Sheet
      title="Access reviews"
      aside={mayStart && <Button onClick={() => setIsOpen(true)}>Start a review</Button>}
      bare
    >
      <Await query={reviews} what="reviews" permission="review.read">
        {(list) =>
          list.length === 0 ? (
            <Empty title="No review yet">
              <p className="soft">
                A review goes through every grant: who holds it, when it was last used, whether to keep it. Unused rights are
                proposed for removal.
              </p>
            </Empty>
          ) : (
            <Table reviews={list} />
          )
        }
      </Await>
      <Modal opened={isOpen} onClose={() => setIsOpen(false)} title="Start a review">
        <StartForm />
      </Modal>
    </Sheet>
  );
}

function Table({ reviews }: { reviews: Review[] }) {
  return (
    <TableFrame>
      <table>
        <thead>
          <tr>
            <th scope="col">Review</th>
            <th scope="col">State</th>
            <th scope="col">Decided</th>
            <th scope="col">Due</th>
          </tr>
        </thead>
        <tbody>
          {reviews.map((one) => (
            <tr key={one.id}>
              <td>
                <Link to="/reviews/$id" params={{ id: one.id }}>
                  {one.title}
                </Link>
              </td>
              <td>
                <ReviewState review={one} />
              </td>
              <td>
                {one.decided} of {one.total}
              </td>
              <td className="soft">
                <Ago at={one.due_at} />
              </td>
            </tr>
          ))}
        </tbody>
      </table>
    </TableFrame>
  );
}

export function ReviewState({ review }: { review: Review }) {
  if (review.overdue) {
    return (
      <State tone="bad" shape="clock">
        overdue
      </State>
    );
  }
  return (
    <State tone={review.state === "open" ? "info" : "good"} shape={review.state === "open" ? "half" : "check"}>
      {review.state}
    </State>
  );
}

function StartForm() {
  const [title, setTitle] = useState("");
  const [dueIn, setDueIn] = useState("14d");
  const client = useQueryClient();
  const navigate = useNavigate();
  const start = useMutation({
    mutationFn: () => post("/reviews", { body: { title, due_in: dueIn } }),
    onSuccess: async (review) => {
      await client.invalidateQueries({ queryKey: ["reviews"] });
      await navigate({ to: "/reviews/$id", params: { id: review.id } });
    },
  });
  const submit = (event: SubmitEvent) => {
    event.preventDefault();
    start.mutate();
  };
  return (
    <form className="stack" onSubmit={submit}>
      {start.isError && <ProblemNotice error={start.error} />}
      <TextInput
        label="Title"
        placeholder="Fourth quarter"
        required
        data-autofocus
        value={title}
        onChange={(e) => setTitle(e.currentTarget.value)}
      />
      <Select label="Due in" data={["7d", "14d", "30d"]} value={dueIn} allowDeselect={false} onChange={(value) => setDueIn(value ?? "14d")} />
      <Command label="the same command">{`fleetward review start ${quote(title || "TITLE")} --due-in ${dueIn}`}</Command>
      <Button type="submit" loading={start.isPending}>
        Start
      </Button>
    </form>
  );
}
