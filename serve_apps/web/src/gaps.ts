// Gaps as the server tells them, and rows of a table for them.
import { make } from "./elements.ts";
import { duration, recently, whole } from "./format.ts";
import { text } from "./language.ts";
import { finite, getJson, isRecord, string } from "./requests.ts";

export interface Gap {
  readonly exchange: string;
  readonly symbol: string;
  readonly from: number;
  readonly to: number;
  readonly missing: number | undefined;
  readonly reason: string;
  readonly evidence: string;
  /** ms since the epoch; undefined while it is open. */
  readonly closed: number | undefined;
}

/** The newest gaps, those that are open first. Throws when the server does not answer. */
export async function newestGaps(query: Readonly<Record<string, string>>): Promise<Gap[]> {
  const body = await getJson(`/api/v1/gaps?${new URLSearchParams(query)}`);
  const rows = (Array.isArray(body) ? body : []).filter(isRecord).map((row): Gap => ({
    exchange: string(row["exchange"]),
    symbol: string(row["symbol"]),
    from: (finite(row["from_ns"]) ?? 0) / 1e6,
    to: (finite(row["to_ns"]) ?? 0) / 1e6,
    missing: finite(row["missing"]),
    reason: string(row["reason"]),
    evidence: string(row["evidence"]),
    closed: row["closed"] === null || row["closed"] === undefined ? undefined : Number(row["closed"]) / 1e6,
  }));
  return rows.sort((a, b) => Number(a.closed !== undefined) - Number(b.closed !== undefined));
}

/** When, how long, how much is missing, why, and what became of it; with its symbol where several are shown. */
export function gapRow(gap: Gap, withSymbol: boolean): HTMLTableRowElement {
  const open = gap.closed === undefined;
  const cells = [
    ...(withSymbol ? [make("td", { text: gap.exchange, data: true }), make("td", { text: gap.symbol, data: true })] : []),
    make("td", { text: recently(gap.from), data: true }),
    make("td", { class: "number", text: duration(gap.to - gap.from) }),
    make("td", { class: "number", text: gap.missing === undefined ? "—" : whole(gap.missing) }),
    make("td", {}, make("span", { class: "badge", text: text(open ? "gaps.open" : "gaps.closed"), attributes: { "data-state": open ? "gapped" : "synced" } })),
    make("td", { class: "why", text: [gap.reason, gap.evidence].filter(Boolean).join(" · "), data: true }),
  ];
  return make("tr", {}, ...cells);
}
