/** Speaks to the platform's public API: cookies carry the session, a header the proof against forgery. */

import { parseProblem, Problem } from "./problem";

type Query = Record<string, string | number | boolean | null | undefined>;

interface Options {
  path?: Record<string, string | number>;
  query?: Query;
  body?: unknown;
  signal?: AbortSignal;
}

type Method = "GET" | "POST" | "PUT" | "DELETE";

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

/** Return the parsed answer. Throws a Problem; asks for a fresh proof and tries again where one is due. */
export async function call<T>(method: Method, template: string, options: Options = {}): Promise<T> {
  try {
    return await send<T>(method, template, options);
  } catch (error) {
    const isDue = error instanceof Problem && error.code === "step_up_required";
    if (!isDue || askForProof === null || !(await askForProof())) throw error;
    return send<T>(method, template, options);
  }
}

async function send<T>(method: Method, template: string, options: Options): Promise<T> {
  const headers: Record<string, string> = { Accept: "application/json" };
  if (method !== "GET" && csrf !== "") headers["X-Fleetward-CSRF"] = csrf;
  if (options.body !== undefined) headers["Content-Type"] = "application/json";
  const address = `/api/v1${fillPath(template, options.path)}${renderQuery(options.query)}`;
  const answer = await reach(address, {
    method,
    headers,
    body: options.body === undefined ? null : JSON.stringify(options.body),
    signal: options.signal ?? null,
    credentials: "same-origin",
  });
  const text = await answer.text();
  const isJson = (answer.headers.get("Content-Type") ?? "").includes("json");
  const body: unknown = isJson && text !== "" ? JSON.parse(text) : text;
  if (!answer.ok) throw parseProblem(answer.status, body);
  return body as T;
}

async function reach(address: string, request: RequestInit): Promise<Response> {
  try {
    return await fetch(address, request);
  } catch (error) {
    if (error instanceof DOMException && error.name === "AbortError") throw error;
    throw new Problem(0, "unreachable", "The platform did not answer.", "Is it running, and are you online?");
  }
}

export const get = <T>(template: string, options?: Options) => call<T>("GET", template, options);
export const post = <T>(template: string, options?: Options) => call<T>("POST", template, options);
export const put = <T>(template: string, options?: Options) => call<T>("PUT", template, options);
export const remove = <T>(template: string, options?: Options) => call<T>("DELETE", template, options);
