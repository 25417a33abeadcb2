/** Return where to go after signing in: a path of ours, whatever the address bar was made to say. */
export function localPath(next: string | undefined): string {
  if (next === undefined) return "/";
  const base = "https://console.invalid";
  const found = URL.parse(next, base);
  if (!next.startsWith("/") || found === null || found.origin !== base) return "/";
  return `${found.pathname}${found.search}`;
}
