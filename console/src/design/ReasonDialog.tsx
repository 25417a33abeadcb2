/** Asks for the reason of an act that cannot be undone, after showing what it does. */

import { Button, Modal, TextInput } from "@mantine/core";
import { useMutation } from "@tanstack/react-query";
import { type SubmitEvent, type ReactNode, useState } from "react";

import { Notice, ProblemNotice } from "./parts";

interface Props<T> {
  isOpen: boolean;
  title: string;
  effect: ReactNode;
  verb: string;
  act: (reason: string) => Promise<T>;
  onDone: (done: T) => void | Promise<void>;
  onClose: () => void;
  children?: ReactNode;
}

export function ReasonDialog<T>({ isOpen, onClose, title, ...form }: Props<T>) {
  return (
    <Modal opened={isOpen} onClose={onClose} title={title}>
      <ReasonForm {...form} />
    </Modal>
  );
}

function ReasonForm<T>({ effect, verb, act, onDone, children }: Omit<Props<T>, "isOpen" | "onClose" | "title">) {
  const [reason, setReason] = useState("");
  const sent = useMutation({ mutationFn: () => act(reason), onSuccess: onDone });
  const submit = (event: SubmitEvent) => {
    event.preventDefault();
    sent.mutate();
  };
  return (
    <form className="stack" onSubmit={submit}>
      <Notice tone="care">{effect}</Notice>
      <TextInput
        label="Reason"
        description="Goes into the audit log"
        required
        maxLength={200}
        data-autofocus
        value={reason}
        onChange={(event) => setReason(event.currentTarget.value)}
      />
      {children}
      {sent.isError && <ProblemNotice error={sent.error} />}
      <Button type="submit" loading={sent.isPending}>
        {verb}
      </Button>
    </form>
  );
}
