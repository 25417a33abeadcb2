/** The secret of a link stands in its fragment, which no server sees. It leaves the address bar once read. */
let held = "";

export function takeToken(): string {
  const found = location.hash.slice(1);
  if (found !== "") {
    held = found;
    history.replaceState(history.state, "", location.pathname);
  }
  return held;
}
