/** Speaks to the platform's public API: cookies carry the session, a header the proof against forgery. */

import type { Answer, Given, Method, Template } from "./paths";
import { parseProblem, Problem } from "./problem";

type Query = Record<string, string | number | boolean | null | undefined>;

interface Loose {
  path?: Record<string, string | number>;
  query?: Query;
  body?: unknown;
  signal?: AbortSignal;
}

let csrf = "";
let askForProof: (() => Promise<boolean>) | null = null;

/** Remember the token that unsafe requests must carry; `GET /me` and every sign-in tell it. */
export function setCsrf(token: string): void {
  csrf = token;
}

/** Name who asks the operator for a fresh proof of identity; it resolves to whether they gave one. */
export function onStepUp(ask: (() => Promise<boolean>) | null): void {
  askForProof = ask;
}

export function fillPath(template: string, values: Record<string, string | number> = {}): string {
  return template.replace(/\{(\w+)\}/g, (_, name: string) => {
    const value = values[name];
    if (value === undefined) throw new Error(`${template}: expected a value for ${name}, found none`);
    return encodeURIComponent(String(value));
  });
}

export function renderQuery(query: Query = {}): string {
  const pairs = Object.entries(query).filter(([, value]) => value !== undefined && value !== null && value !== "");
  return pairs.length === 0 ? "" : `?${new URLSearchParams(pairs.map(([k, v]) => [k, String(v)])).toString()}`;
}

async function call(method: Method, template: string, options: Loose = {}): Promise<unknown> {
  try {
    return await send(method, template, options);
  } catch (error) {
    const isDue = error instanceof Problem && error.code === "step_up_required";
    if (!isDue || askForProof === null || !(await askForProof())) throw error;
    return send(method, template, options);
  }
}

async function send(method: Method, template: string, options: Loose): Promise<unknown> {
  const headers: Record<string, string> = { Accept: "application/json" };
  if (method !== "get" && csrf !== "") headers["X-Fleetward-CSRF"] = csrf;
  if (options.body !== undefined) headers["Content-Type"] = "application/json";
  const address = `/api/v1${fillPath(template, options.path)}${renderQuery(options.query)}`;
  const answer = await reach(address, {
    method: method.toUpperCase(),
    headers,
    body: options.body === undefined ? null : JSON.stringify(options.body),
    signal: options.signal ?? null,
    credentials: "same-origin",
  });
  const text = await answer.text();
  const isJson = (answer.headers.get("Content-Type") ?? "").includes("json");
  const body: unknown = isJson && text !== "" ? JSON.parse(text) : text;
  if (!answer.ok) throw parseProblem(answer.status, body);
  return body;
}

async function reach(address: string, request: RequestInit): Promise<Response> {
  try {
    return await fetch(address, request);
  } catch (error) {
    if (error instanceof DOMException && error.name === "AbortError") throw error;
    throw new Problem(0, "unreachable", "The platform did not answer.", "Is it running, and are you online?");
  }
}

/** Return what calls a path with one method: it throws a Problem, and asks for a fresh proof where one is due. */
function by<M extends Method>(method: M) {
  return async <P extends Template<M>>(template: P, ...[options]: Given<P, M>): Promise<Answer<P, M>> =>
    (await call(method, template, options)) as Answer<P, M>;
}

export const get = by("get");
export const post = by("post");
export const put = by("put");
export const remove = by("delete");
