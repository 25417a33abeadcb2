/** Shapes that say a state without colour. */

import type { ReactNode } from "react";

export type Tone = "good" | "care" | "bad" | "info" | "soft";

const SHAPES = {
  disc: <circle cx="6" cy="6" r="5" fill="currentColor" />,
  half: (
    <>
      <circle cx="6" cy="6" r="4.5" fill="none" stroke="currentColor" strokeWidth="1.5" />
      <path d="M6 1.500a4.5 4.5 0 0 0 0 9z" fill="currentColor" />
    </>
  ),
  ring: <circle cx="6" cy="6" r="4.5" fill="none" stroke="currentColor" strokeWidth="1.5" />,
  diamond: <path d="M6 0.5 11.5 6 6 11.5 0.5 6z" fill="currentColor" />,
  cross: <path d="m2 2 8 8m0-8-8 8" stroke="currentColor" strokeWidth="2.4" fill="none" />,
  dash: <path d="M1 6h10" stroke="currentColor" strokeWidth="2.4" />,
  triangle: <path d="M6 0.8 11.7 11H0.300z" fill="currentColor" />,
  check: <path d="m1.5 6.5 3 3 6-7" stroke="currentColor" strokeWidth="2.2" fill="none" />,
  clock: (
    <path
      d="M6 1a5 5 0 1 1 0 10A5 5 0 0 1 6 1zm0 2v3l2 1.5"
      fill="none"
      stroke="currentColor"
      strokeWidth="1.5"
    />
  ),
  square: <path d="M1.5 1.500h9v9h-9z" fill="currentColor" />,
} satisfies Record<string, ReactNode>;

export type Shape = keyof typeof SHAPES;

export function Mark({ shape }: { shape: Shape }) {
  return (
    <svg viewBox="0 0 12 12" aria-hidden="true">
      {SHAPES[shape]}
    </svg>
  );
}

export function State({ tone, shape, children }: { tone: Tone; shape: Shape; children: ReactNode }) {
  return (
    <span className={`state tone-${tone}`}>
      <Mark shape={shape} />
      {children}
    </span>
  );
}

const DEVICE: Record<string, [Tone, Shape]> = {
  registered: ["soft", "ring"],
  enrolled: ["info", "half"],
  active: ["good", "disc"],
  quarantined: ["care", "diamond"],
  revoked: ["bad", "cross"],
  retired: ["soft", "dash"],
};

export function DeviceState({ state }: { state: string }) {
  const [tone, shape] = DEVICE[state] ?? ["soft", "ring"];
  return (
    <State tone={tone} shape={shape}>
      {state}
    </State>
  );
}

const SEVERITY: Record<string, [Tone, Shape]> = {
  critical: ["bad", "square"],
  warning: ["care", "triangle"],
  notice: ["info", "ring"],
};

export function Severity({ severity }: { severity: string }) {
  const [tone, shape] = SEVERITY[severity] ?? ["soft", "dash"];
  return (
    <State tone={tone} shape={shape}>
      {severity}
    </State>
  );
}
