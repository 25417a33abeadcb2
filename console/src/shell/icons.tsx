import type { ReactNode } from "react";

const PATHS = {
  today: "M3 9h12M5 5h8M6 13h6",
  devices: "M2.5 3.500h13v4h-13zM2.5 10.500h13v4h-13zM5 5.500h.01M5 12.500h.01",
  releases: "M9 2v9m0 0L5.5 7.500M9 11l3.5-3.500M3 15h12",
  operators: "M9 8.500a3 3 0 1 0 0-6 3 3 0 0 0 0 6zM3 15.500c.8-3 3-4.5 6-4.500s5.2 1.5 6 4.5",
  audit: "M5 2.500h8v13H5zM7.5 6h3M7.5 9h3M7.5 12h3",
  settings: "M3 5h7m3 0h2M3 13h2m3 0h7M11.5 3v4M6.5 11v4",
} satisfies Record<string, string>;

export type IconName = keyof typeof PATHS;

export function Icon({ name }: { name: IconName }): ReactNode {
  return (
    <svg viewBox="0 0 18 18" aria-hidden="true" fill="none" stroke="currentColor" strokeWidth="1.6">
      <path d={PATHS[name]} />
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
