import type { ReactNode } from "react";

/** A place's sign: lines in a field of 18 by 18. */
export function Icon({ path }: { path: string }): ReactNode {
  return (
    <svg viewBox="0 0 18 18" aria-hidden="true" fill="none" stroke="currentColor" strokeWidth="1.6">
      <path d={path} />
    </svg>
  );
}

export function Brand(): ReactNode {
  return (
    <svg viewBox="3 3 26 24" aria-hidden="true" fill="none" strokeWidth="3">
      <path stroke="#f39ac4" d="M7 23 16 6l9 17" />
      <path stroke="currentColor" d="M11.5 24.5 16 16l4.5 8.5" />
    </svg>
  );
}
