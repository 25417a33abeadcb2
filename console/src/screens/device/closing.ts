const SOONEST_MS = 1_000;
// What a browser's timer can count; a platform's answer may lie further ahead.
const LATEST_MS = 2 ** 31 - 1;

/** Return after how many milliseconds to ask again, so that what closes at a time is seen closed; false for never. */
export function untilNext(closesAt: string | null, now: number): number | false {
  if (closesAt === null) return false;
  return Math.min(LATEST_MS, Math.max(SOONEST_MS, Date.parse(closesAt) - now + SOONEST_MS));
}
