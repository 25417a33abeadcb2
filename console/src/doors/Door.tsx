/** Pages before somebody is signed in: what this is on the left, what to do on the right. */

import { type ReactNode, useEffect } from "react";

import { Brand } from "../shell/icons";

export function Door({ title, aside, children }: { title: string; aside: string; children: ReactNode }) {
  useEffect(() => {
    document.title = `${title} · Fleetward`;
  }, [title]);
  return (
    <div className="door">
      <header className="door-side">
        <span className="brand">
          <Brand /> Fleetward
        </span>
        <p>{aside}</p>
        <Chart />
      </header>
      <main>
        <div>
          <h1>{title}</h1>
          {children}
        </div>
      </main>
    </div>
  );
}

/** Soundings of a harbour: contour lines, a channel, and a fleet in line ahead. */
function Chart() {
  const contours = [0, 1, 2, 3, 4, 5, 6];
  return (
    <svg className="chart" viewBox="0 0 360 300" fill="none" aria-hidden="true">
      {contours.map((n) => (
        <path
          key={n}
          stroke="currentColor"
          strokeWidth="1.5"
          d={`M-10 ${60 + n * 30} C ${70 + n * 9} ${10 + n * 34}, ${130 + n * 12} ${150 + n * 20}, ${210 + n * 8} ${90 + n * 28} S ${320 + n * 6} ${60 + n * 40}, 380 ${120 + n * 26}`}
        />
      ))}
      <path stroke="#f39ac4" strokeWidth="1.5" strokeDasharray="2 7" d="M20 290 C 110 190 170 210 340 40" />
      {[
        [92, 217],
        [160, 180],
        [230, 138],
        [297, 82],
      ].map(([x = 0, y = 0]) => (
        <path key={x} fill="#e9eff3" d={`M${x - 6} ${y + 8} ${x + 1} ${y - 9}l6 14z`} />
      ))}
    </svg>
  );
}
