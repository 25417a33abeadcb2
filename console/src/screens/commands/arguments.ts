/** Return the arguments in `a=1 b=two`, all as texts, as the command line sends them; null where one is none. */
export function parseArguments(text: string): Record<string, string> | null {
  const found: Record<string, string> = {};
  for (const word of text.split(/\s+/).filter((one) => one !== "")) {
    const mark = word.indexOf("=");
    if (mark < 1) return null;
    found[word.slice(0, mark)] = word.slice(mark + 1);
  }
  return found;
}
