/** Return when a day of the reader's own calendar begins, RFC 3339. */
export function startOfDay(day: string): string {
  return new Date(`${day}T00:00:00`).toISOString();
}

/** Return when a day of the reader's own calendar ends, RFC 3339. */
export function endOfDay(day: string): string {
  return new Date(`${day}T23:59:59.999`).toISOString();
}
