import { beforeEach, describe, expect, it } from "vitest";

import { type Api, makeApi } from "../api/client";
import { type Asking, makeAsking } from "./asking";

let isFresh: boolean;
let asked: number;
let shown: boolean[];
let asking: Asking;
let api: Api;
let signOut: () => void;

/** A platform that does nothing without a fresh proof. */
function platform(): Promise<Response> {
  asked += 1;
  const body = isFresh ? {} : { code: "step_up_required", detail: "prove it" };
  return Promise.resolve(Response.json(body, { status: isFresh ? 200 : 403 }));
}

beforeEach(() => {
  isFresh = false;
  asked = 0;
  shown = [];
  api = makeApi("https://fleet.test/api/v1", platform);
  asking = makeAsking((isAsked) => shown.push(isAsked));
});

const act = () => api.post("/devices/{device_id}/revoke", { params: { path: { device_id: "cam-1" } }, body: { reason: "lost" } });

const outcome = (call: Promise<unknown>) => call.then(() => "done", (error: unknown) => (error as { code: string }).code);

/** Begin two acts, both refused and waiting when this returns; `both` tells what became of them. */
async function actTwice(): Promise<{ both: Promise<string[]> }> {
  let waiting = 0;
  const begun = new Promise<void>((resolve) => {
    signOut = asking.listen({
      onStepUp: (ask) =>
        api.onStepUp(
          ask &&
            (() => {
              waiting += 1;
              if (waiting === 2) resolve();
              return ask();
            }),
        ),
    });
  });
  const both = Promise.all([outcome(act()), outcome(act())]);
  await begun;
  return { both };
}

describe("two acts that wait for a fresh proof", () => {
  it("both go on with one", async () => {
    const { both } = await actTwice();
    expect(shown).toEqual([true]);
    isFresh = true;
    asking.settle(true);
    expect(await both).toEqual(["done", "done"]);
    expect([asked, shown]).toEqual([4, [true, false]]);
  });
  it("are both refused where it is not given", async () => {
    const { both } = await actTwice();
    asking.settle(false);
    expect(await both).toEqual(["step_up_required", "step_up_required"]);
    expect([asked, shown]).toEqual([2, [true, false]]);
  });
  it("are both refused when somebody signs out", async () => {
    const { both } = await actTwice();
    signOut();
    expect(await both).toEqual(["step_up_required", "step_up_required"]);
    await expect(act()).rejects.toMatchObject({ code: "step_up_required" });
    expect([asked, shown]).toEqual([3, [true, false]]);
  });
});

describe("an act after another", () => {
  it("asks anew", async () => {
    for (const round of [1, 2]) {
      const { both } = await actTwice();
      asking.settle(false);
      await both;
      expect(shown).toHaveLength(2 * round);
      asked = 0;
    }
  });
  it("is not told of a proof that nobody waited for", async () => {
    asking.settle(true);
    expect(shown).toEqual([]);
    const { both } = await actTwice();
    asking.settle(false);
    expect(await both).toEqual(["step_up_required", "step_up_required"]);
  });
});
