import { beforeEach, describe, expect, it } from "vitest";

import { type Api, makeApi } from "./client";
import { Problem } from "./problem";

interface Heard {
  method: string;
  url: string;
  csrf: string | null;
  accept: string | null;
  type: string | null;
  body: string;
}
type Said = [status: number, body: unknown, headers?: Record<string, string>];

const PROBLEM = { "Content-Type": "application/problem+json" };
const STEP_UP: Said = [403, { code: "step_up_required", detail: "prove it" }, PROBLEM];

let heard: Heard[];
/** What the platform answers next, in order; then empty success. */
let says: Said[];
let isThere: boolean;
let api: Api;

/** The platform, as the network shows it to a browser. */
async function platform(request: Request): Promise<Response> {
  const { method, url, headers } = request;
  if (!isThere) throw new TypeError("Failed to fetch");
  request.signal.throwIfAborted();
  const said = { csrf: headers.get("X-Fleetward-CSRF"), accept: headers.get("Accept"), type: headers.get("Content-Type") };
  heard.push({ method, url: url.replace("https://fleet.test", ""), ...said, body: await request.text() });
  const [status, answer, more] = says.shift() ?? [200, {}];
  const body = typeof answer === "string" ? answer : JSON.stringify(answer);
  return new Response(status === 204 ? null : body, { status, headers: { "Content-Type": "application/json", ...more } });
}

beforeEach(() => {
  heard = [];
  says = [];
  isThere = true;
  api = makeApi("https://fleet.test/api/v1", platform);
});

describe("a call", () => {
  it("fills its path and leaves out of its query what is not given", async () => {
    says = [[200, { devices: [], total: 0 }]];
    const query = { search: "a&b=c d", model: undefined, group: null, firmware: "", limit: 0 };
    expect(await api.get("/devices", { params: { query } })).toEqual({ devices: [], total: 0 });
    await api.get("/devices/{device_id}", { params: { path: { device_id: "a/b?c#d" } } });
    expect(heard.map((one) => one.url)).toEqual(["/api/v1/devices?search=a%26b%3Dc+d&limit=0", "/api/v1/devices/a%2Fb%3Fc%23d"]);
    expect(heard[0]).toMatchObject({ method: "GET", accept: "application/json", type: null });
  });
  it("sends what it is given as JSON, and nothing where it is given nothing", async () => {
    await api.post("/setup/begin", { body: { token: "t", name: "ada", display_name: "Ada" } });
    await api.post("/signout");
    expect(heard[0]).toMatchObject({ method: "POST", type: "application/json", body: '{"token":"t","name":"ada","display_name":"Ada"}' });
    expect(heard[1]).toMatchObject({ type: null, body: "" });
  });
  it("answers nothing where the platform said nothing", async () => {
    says = [[204, ""]];
    await expect(api.remove("/filters/{filter_id}", { params: { path: { filter_id: "1" } } })).resolves.toBeUndefined();
  });
  it("ends when it is no longer wanted", async () => {
    const gone = new AbortController();
    gone.abort();
    await expect(api.get("/devices", { signal: gone.signal })).rejects.toThrow(DOMException);
    expect(heard).toEqual([]);
  });
});

describe("the proof against forgery", () => {
  it("goes with what changes something, and with nothing else", async () => {
    await api.post("/signout");
    api.setCsrf("token-1");
    await api.get("/me");
    await api.post("/signout");
    await api.remove("/filters/{filter_id}", { params: { path: { filter_id: "1" } } });
    expect(heard.map((one) => one.csrf)).toEqual([null, null, "token-1", "token-1"]);
  });
});

async function problemOf(call: Promise<unknown>): Promise<Problem> {
  const error: unknown = await call.then(
    () => new Error("it succeeded"),
    (found: unknown) => found,
  );
  if (error instanceof Problem) return error;
  throw error;
}

describe("a refusal", () => {
  it("is the platform's own problem document", async () => {
    says = [[429, { code: "too_many", detail: "slowly", hint: "wait", retry_after_s: 7 }, PROBLEM]];
    expect(await problemOf(api.get("/me"))).toMatchObject({
      status: 429, code: "too_many", message: "slowly", hint: "wait", retryAfterS: 7,
    });
  });
  it.each([
    ["a page of a proxy", "<h1>Bad gateway</h1>", { "Content-Type": "text/html" }],
    ["empty", "", PROBLEM],
    ["a list", [], PROBLEM],
  ])("may be %s", async (_, body, headers) => {
    says = [[502, body, headers]];
    expect(await problemOf(api.get("/me"))).toMatchObject({ status: 502, code: "unexpected_answer" });
  });
  it("is told apart from a platform that is not there", async () => {
    isThere = false;
    expect(await problemOf(api.get("/me"))).toMatchObject({ status: 0, code: "unreachable" });
  });
});

describe("an act that needs a fresh proof", () => {
  const act = () => api.post("/devices/{device_id}/revoke", { params: { path: { device_id: "cam-1" } }, body: { reason: "lost" } });

  it("is sent once more, whole, with the token that the proof brought", async () => {
    says = [STEP_UP, [200, { id: "cam-1" }]];
    api.setCsrf("before");
    api.onStepUp(() => {
      api.setCsrf("after");
      return Promise.resolve(true);
    });
    expect(await act()).toEqual({ id: "cam-1" });
    expect(heard.map(({ url, csrf, body }) => [url, csrf, body])).toEqual([
      ["/api/v1/devices/cam-1/revoke", "before", '{"reason":"lost"}'],
      ["/api/v1/devices/cam-1/revoke", "after", '{"reason":"lost"}'],
    ]);
  });
  it("stays refused where no proof is given", async () => {
    says = [STEP_UP];
    api.onStepUp(() => Promise.resolve(false));
    expect((await problemOf(act())).code).toBe("step_up_required");
    expect(heard).toHaveLength(1);
  });
  it("stays refused where nobody is there to ask", async () => {
    says = [STEP_UP];
    expect((await problemOf(act())).code).toBe("step_up_required");
    expect(heard).toHaveLength(1);
  });
  it("asks once for one call, whatever the second answer is", async () => {
    says = [STEP_UP, STEP_UP];
    let asked = 0;
    api.onStepUp(() => {
      asked += 1;
      return Promise.resolve(true);
    });
    expect((await problemOf(act())).code).toBe("step_up_required");
    expect([asked, heard.length]).toEqual([1, 2]);
  });
  it("is not asked about for another refusal", async () => {
    says = [[403, { code: "forbidden", detail: "no" }, PROBLEM]];
    api.onStepUp(() => Promise.reject(new Error("nobody may be asked")));
    expect((await problemOf(act())).code).toBe("forbidden");
  });
  it("tells of a platform that went away meanwhile", async () => {
    says = [STEP_UP];
    api.onStepUp(() => {
      isThere = false;
      return Promise.resolve(true);
    });
    expect((await problemOf(act())).code).toBe("unreachable");
  });
});
