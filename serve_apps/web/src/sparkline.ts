// A line of prices as big as a word. What it shows is also said in words.
import { shape } from "./elements.ts";

const WIDTH = 100;
const HEIGHT = 28;
const MARGIN = 2;

/** Draws the values, evenly spaced, into `svg`, in the colour of a direction. */
export function drawSparkline(svg: SVGSVGElement, values: ArrayLike<number>, direction: string, label: string): void {
  svg.setAttribute("viewBox", `0 0 ${WIDTH} ${HEIGHT}`);
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("role", "img");
  svg.setAttribute("aria-label", label);
  svg.dataset["direction"] = direction;
  const line = path(values);
  const area = svg.firstElementChild ?? svg.appendChild(shape("path", { class: "area" }));
  const stroke = svg.children[1] ?? svg.appendChild(shape("path", { class: "stroke", "vector-effect": "non-scaling-stroke" }));
  stroke.setAttribute("d", line);
  area.setAttribute("d", line && `${line}V${HEIGHT}H0Z`);
}

/** Pure: the path of evenly spaced values; "" for fewer than two. */
export function path(values: ArrayLike<number>): string {
  if (values.length < 2) return "";
  let [low, high] = [Infinity, -Infinity];
  for (let at = 0; at < values.length; at++) [low, high] = [Math.min(low, values[at]!), Math.max(high, values[at]!)];
  const scale = high > low ? (HEIGHT - 2 * MARGIN) / (high - low) : 0;
  const y = (value: number): number => (scale ? HEIGHT - MARGIN - (value - low) * scale : HEIGHT / 2);
  const points = Array.from({ length: values.length }, (_, at) => `${round((at * WIDTH) / (values.length - 1))},${round(y(values[at]!))}`);
  return `M${points.join("L")}`;
}

function round(value: number): number {
  return Math.round(value * 100) / 100;
}
