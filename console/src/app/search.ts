/** Queries of addresses as plain texts: `?firmware=1.0` stays a text, and people can write one by hand. */

export function parseSearch(search: string): Record<string, string> {
  return Object.fromEntries(new URLSearchParams(search));
}

export function renderSearch(values: Record<string, unknown>): string {
  const pairs = Object.entries(values).filter((pair): pair is [string, string] => typeof pair[1] === "string" && pair[1] !== "");
  return pairs.length === 0 ? "" : `?${new URLSearchParams(pairs).toString()}`;
}
