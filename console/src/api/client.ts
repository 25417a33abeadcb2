/** Speaks to the platform's public API: cookies carry the session, a header the proof against forgery.
 *
 * Paths, and what each takes and answers, are typed by the API's own OpenAPI document; openapi-fetch reads those types.
 */

import createClient, { type Client, type ClientPathsWithMethod, type MaybeOptionalInit, type Middleware } from "openapi-fetch";

import { parseProblem, Problem } from "./problem";
import type { paths } from "./schema";

const BASE = "/api/v1";

/** The paths without what all of them begin with. */
type Paths = { [P in keyof paths as P extends `${typeof BASE}${infer Rest}` ? Rest : never]: paths[P] };
type Method = "get" | "post" | "delete";
type Init<P extends keyof Paths, M extends Method> = MaybeOptionalInit<Paths[P], M>;
/** What a call takes; it must be given where the call needs any of it. */
type Given<P extends keyof Paths, M extends Method> = undefined extends Init<P, M> ? [init?: Init<P, M>] : [init: Init<P, M>];
type Json<T> = T extends { content: { "application/json": infer Body } } ? Body : undefined;
type Answer<P extends keyof Paths, M extends Method> =
  Paths[P] extends Record<M, { responses: infer R }> ? Json<R[keyof R & (200 | 201 | 204)]> : never;
type Call<M extends Method> = <P extends ClientPathsWithMethod<Client<Paths>, M>>(path: P, ...given: Given<P, M>) => Promise<Answer<P, M>>;

export interface Api {
  get: Call<"get">;
  post: Call<"post">;
  remove: Call<"delete">;
  /** Remember the token that unsafe requests must carry; `GET /me` and every sign-in tell it. */
  setCsrf: (token: string) => void;
  /** Name who asks the operator for a fresh proof of identity; it resolves to whether they gave one. */
  onStepUp: (ask: (() => Promise<boolean>) | null) => void;
}

/** Return what calls the API at an address. Whatever is no success is thrown as a Problem. */
export function makeApi(baseUrl: string, send: (request: Request) => Promise<Response> = (request) => fetch(request)): Api {
  let csrf = "";
  let askForProof: (() => Promise<boolean>) | null = null;
  const copies = new Map<string, Request>();

  const reach = async (request: Request) => {
    try {
      return await send(request);
    } catch (error) {
      if (error instanceof DOMException && error.name === "AbortError") throw error;
      throw new Problem(0, "unreachable", "The platform did not answer.", "Is it running, and are you online?");
    }
  };
  const carryToken = (request: Request) => {
    if (request.method !== "GET" && csrf !== "") request.headers.set("X-Fleetward-CSRF", csrf);
  };
  const forgery: Middleware = { onRequest: ({ request }) => carryToken(request) };
  /** Where an act needs a fresh proof of identity, ask for one and try once more. */
  const stepUp: Middleware = {
    onRequest: ({ request, id }) => {
      // A body can be read once: what may have to be sent again is copied before.
      copies.set(id, request.clone());
    },
    onResponse: async ({ response, id }) => {
      const again = copies.get(id);
      copies.delete(id);
      if (again === undefined || askForProof === null || !(await isProofDue(response)) || !(await askForProof())) return undefined;
      carryToken(again);
      return reach(again);
    },
    onError: ({ id }) => {
      copies.delete(id);
    },
  };
  const problems: Middleware = {
    onResponse: async ({ response }) => {
      if (!response.ok) throw await readProblem(response);
    },
  };

  // Answers pass from the last to the first: what is still refused after a fresh proof is a problem.
  const client = createClient<Paths>({
    baseUrl,
    fetch: reach,
    headers: { Accept: "application/json" },
    credentials: "same-origin",
    querySerializer: renderQuery,
  });
  client.use(problems, stepUp, forgery);

  const by = <M extends Method>(method: M) =>
    (async (path: never, init: never) => (await client.request(method, path, init)).data) as Call<M>;
  return {
    get: by("get"),
    post: by("post"),
    remove: by("delete"),
    setCsrf: (token) => {
      csrf = token;
    },
    onStepUp: (ask) => {
      askForProof = ask;
    },
  };
}

/** Render what is given; parameters may stand as undefined, null or empty. */
export function renderQuery(query: Record<string, unknown>): string {
  const given = Object.entries(query).filter(([, value]) => value !== undefined && value !== null && value !== "");
  return new URLSearchParams(given.map(([name, value]) => [name, String(value)])).toString();
}

async function isProofDue(response: Response): Promise<boolean> {
  return !response.ok && (await readProblem(response.clone())).code === "step_up_required";
}

async function readProblem(response: Response): Promise<Problem> {
  const text = await response.text();
  const isJson = (response.headers.get("Content-Type") ?? "").includes("json");
  return parseProblem(response.status, isJson && text !== "" ? (JSON.parse(text) as unknown) : text);
}

export const platform = makeApi(BASE);
export const { get, post, remove, setCsrf } = platform;
