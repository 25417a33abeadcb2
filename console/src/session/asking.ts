/** Those who wait for a fresh proof of identity: one proof answers them all. */

import type { Api } from "../api/client";

export interface Asking {
  /** Answer everybody who waits: whether a proof was given. */
  settle: (isProven: boolean) => void;
  /** Hear what an API's calls ask until the returned function is called; whatever waits then is refused. */
  listen: (api: Pick<Api, "onStepUp">) => () => void;
}

/** Return where calls wait for a proof; `show` is told when the first begins to wait, and when nobody does any more. */
export function makeAsking(show: (isAsked: boolean) => void): Asking {
  let waiting: ((isProven: boolean) => void)[] = [];
  const ask = () =>
    new Promise<boolean>((resolve) => {
      waiting.push(resolve);
      if (waiting.length === 1) show(true);
    });
  const settle = (isProven: boolean) => {
    const answered = waiting;
    waiting = [];
    if (answered.length > 0) show(false);
    for (const answer of answered) answer(isProven);
  };
  const listen = (api: Pick<Api, "onStepUp">) => {
    api.onStepUp(ask);
    return () => {
      api.onStepUp(null);
      settle(false);
    };
  };
  return { settle, listen };
}
