// A half round gauge from 0 to 100 with the bands of its indicator; its value and band are said in words too.
import { bandName, band, bands, type Indicator } from "../bands.ts";
import { shape } from "../elements.ts";
import { decimal } from "../format.ts";
import { text } from "../language.ts";

const RADIUS = 80;
const THICK = 14;
const GAP = 1.2;

export class Gauge {
  readonly svg = shape("svg", { viewBox: "0 0 200 112", class: "gauge", role: "img" }) as SVGSVGElement;
  private readonly needle: SVGElement;

  constructor(private readonly indicator: Indicator) {
    let from = 0;
    for (const { below, name } of bands(indicator)) {
      const to = below ?? 100;
      this.svg.append(shape("path", { d: arc(from + (from ? GAP / 2 : 0), to - (to < 100 ? GAP / 2 : 0)), class: "band", "data-band": name, "stroke-width": String(THICK) }));
      from = to;
    }
    this.needle = shape("path", { d: `M100 ${100 - RADIUS + THICK + 4}l-6 13h12z`, class: "needle" });
    this.svg.append(this.needle);
  }

  /** Undefined: not known. */
  show(name: string, value: number | undefined, digits: number): void {
    this.needle.setAttribute("transform", value === undefined ? "" : `rotate(${Math.min(100, Math.max(0, value)) * 1.8 - 90} 100 100)`);
    this.needle.classList.toggle("nowhere", value === undefined);
    const own = value === undefined ? undefined : band(this.indicator, value);
    for (const part of this.svg.querySelectorAll<SVGElement>(".band")) part.classList.toggle("own", part.dataset["band"] === own?.name);
    this.svg.setAttribute("aria-label", value === undefined || !own ? `${name}: ${text("field.unknown")}` : text("tile.gauge", { name, value: decimal(value, digits), band: bandName(own) }));
  }
}

function arc(from: number, to: number): string {
  const at = (value: number): string => {
    const angle = Math.PI * (1 - value / 100);
    return `${(100 + RADIUS * Math.cos(angle)).toFixed(2)} ${(100 - RADIUS * Math.sin(angle)).toFixed(2)}`;
  };
  return `M${at(from)}A${RADIUS} ${RADIUS} 0 0 1 ${at(to)}`;
}
