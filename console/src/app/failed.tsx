import { type ErrorComponentProps, Link, useRouter } from "@tanstack/react-router";

import { Empty, Page, ProblemNotice } from "../design/parts";

export function Failed({ error }: ErrorComponentProps) {
  const router = useRouter();
  return (
    <Page title="This page failed">
      <ProblemNotice error={error} retry={() => void router.invalidate()} />
    </Page>
  );
}

export function NotFound() {
  return (
    <Page title="There is no such page">
      <Empty title="Perhaps it moved, perhaps you may not see it">
        <Link to="/">Go to today</Link>
      </Empty>
    </Page>
  );
}
