/** An RFC 9457 problem document of ours, as an error. */
export class Problem extends Error {
  override readonly name = "Problem";

  constructor(
    readonly status: number,
    readonly code: string,
    detail: string,
    readonly hint: string | null = null,
    readonly retryAfterS: number | null = null,
  ) {
    super(detail);
  }
}

/** Return the problem an answer with an error status carries; proxies between may answer in other forms. */
export function parseProblem(status: number, body: unknown): Problem {
  const found = typeof body === "object" && body !== null ? (body as Record<string, unknown>) : {};
  const text = (name: string) => (typeof found[name] === "string" ? found[name] : null);
  const retry = found["retry_after_s"];
  return new Problem(
    status,
    text("code") ?? "unexpected_answer",
    text("detail") ?? `The platform answered with status ${status}.`,
    text("hint"),
    typeof retry === "number" ? retry : null,
  );
}

export function isForbidden(error: unknown): boolean {
  return error instanceof Problem && error.status === 403;
}

export function isSignedOut(error: unknown): boolean {
  return error instanceof Problem && error.status === 401;
}
