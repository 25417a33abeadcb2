import { useComputedColorScheme } from "@mantine/core";
import { useEffect, useRef } from "react";
import UPlot from "uplot";
import "uplot/dist/uPlot.min.css";

import type { Series } from "./series";

const HEIGHT = 180;

export function Plot({ series }: { series: Series }) {
  const place = useRef<HTMLDivElement>(null);
  const plot = useRef<UPlot | null>(null);
  const scheme = useComputedColorScheme("light");
  useEffect(() => {
    const element = place.current;
    if (element === null) return;
    const drawn = new UPlot(optionsFor(element), [[], []], element);
    plot.current = drawn;
    const resized = new ResizeObserver(() => drawn.setSize({ width: element.clientWidth, height: HEIGHT }));
    resized.observe(element);
    return () => {
      resized.disconnect();
      drawn.destroy();
      plot.current = null;
    };
  }, [scheme]);
  useEffect(() => {
    plot.current?.setData([series.times, series.values]);
  }, [series, scheme]);
  const low = Math.min(...series.values);
  const high = Math.max(...series.values);
  return (
    <div
      ref={place}
      className="plot"
      role="img"
      aria-label={`${series.name}: ${series.values.length} readings between ${low} and ${high}, the last ${series.values.at(-1) ?? "none"}`}
    />
  );
}

function optionsFor(element: HTMLElement): UPlot.Options {
  const style = getComputedStyle(element);
  const colour = (name: string) => style.getPropertyValue(`--${name}`).trim();
  const axis = {
    stroke: colour("soft"),
    grid: { stroke: colour("line"), width: 1 },
    ticks: { stroke: colour("line"), width: 1 },
    font: `12px ${style.fontFamily}`,
  };
  return {
    width: Math.max(200, element.clientWidth),
    height: HEIGHT,
    legend: { show: false },
    cursor: { drag: { x: true, y: false } },
    axes: [axis, { ...axis, size: 56 }],
    series: [{}, { stroke: colour("accent"), width: 2, points: { show: false } }],
  };
}
