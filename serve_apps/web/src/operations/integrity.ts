// Whether what is collected can be trusted: one cell per symbol, and a table with those in trouble first.
import { arrange, element, make, write } from "../elements.ts";
import { recently, whole } from "../format.ts";
import { chartAddress, compare, keyOf } from "../instruments.ts";
import { text } from "../language.ts";
import { STATES, badge, readTrust, showBadge, stateName, type Trust } from "../trust.ts";

// More rows than anyone reads; those in trouble come first.
const MOST_ROWS = 200;

export class IntegrityView {
  private readonly section = element("integrity");
  private readonly summary = element("integrity-summary");
  private readonly strip = element("integrity-strip");
  private readonly body = element("integrity-rows");
  private readonly cells = new Map<string, HTMLElement>();
  private readonly lines = new Map<string, { line: HTMLTableRowElement; texts: HTMLElement[]; badge: HTMLElement }>();
  private rows: readonly Trust[] | undefined;
  private away = false;

  /** What the server says; undefined where it does not answer. */
  show(said: unknown): void {
    this.away = !Array.isArray(said);
    if (Array.isArray(said)) this.rows = said.flatMap((row: unknown) => readTrust(row) ?? []);
    this.draw();
  }

  draw(): void {
    this.section.classList.toggle("old", this.away);
    const rows = this.rows ?? [];
    const sorted = [...rows].sort(
      (a, b) => STATES.indexOf(a.state) - STATES.indexOf(b.state) || compare(a.exchange, b.exchange) || compare(a.symbol, b.symbol),
    );
    write(this.summary, this.away ? text("integrity.away") : this.rows ? summaryOf(rows) : "");
    this.summary.dataset["state"] = this.away ? "unknown" : (sorted[0]?.state ?? "unknown");
    this.drawStrip(rows);
    const shown = sorted.slice(0, MOST_ROWS);
    const lines = shown.map((row) => this.line(row));
    for (const [key, { line }] of this.lines) if (!lines.includes(line)) this.lines.delete(key);
    arrange(this.body, lines);
  }

  private drawStrip(rows: readonly Trust[]): void {
    const sorted = [...rows].sort((a, b) => compare(a.exchange, b.exchange) || compare(a.symbol, b.symbol));
    const groups = [...Map.groupBy(sorted, ({ exchange }) => exchange)].map(([exchange, own]) =>
      make("li", {}, make("span", { text: exchange, data: true }), ...own.map((row) => this.cell(row))),
    );
    this.strip.replaceChildren(...groups);
  }

  /** The same element as before, so that a change of its colour is seen to fade. */
  private cell(row: Trust): HTMLElement {
    const key = keyOf(row);
    const cell = this.cells.get(key) ?? make("i");
    this.cells.set(key, cell);
    cell.dataset["state"] = row.state;
    cell.title = `${row.symbol} ${stateName(row.state)}${row.why ? `: ${row.why}` : ""}`;
    return cell;
  }

  private line(row: Trust): HTMLTableRowElement {
    const key = keyOf(row);
    let known = this.lines.get(key);
    if (!known) {
      const link = make("a", { text: row.symbol, data: true });
      link.href = chartAddress(row);
      const state = badge();
      const texts = [make("td"), make("td", { class: "number" }), make("td", { class: "number" }), make("td", { class: "why", data: true })];
      const line = make("tr", {}, make("td", { text: row.exchange, data: true }), make("th", { attributes: { scope: "row" } }, link), make("td", {}, state), ...texts);
      // It would begin again when the line is moved.
      line.addEventListener("animationend", () => line.classList.remove("healed"));
      this.lines.set(key, (known = { line, texts, badge: state }));
    }
    const { line, texts, badge: state } = known;
    const before = line.dataset["state"];
    line.dataset["state"] = row.state;
    if (row.state !== "synced") line.classList.remove("healed");
    else if (before !== undefined && before !== "synced") line.classList.add("healed");
    showBadge(state, row);
    [row.since > 0 ? recently(row.since) : "—", whole(row.open), whole(row.closed), row.why].forEach((said, at) => write(texts[at]!, said));
    return line;
  }
}

function summaryOf(rows: readonly Trust[]): string {
  const counts = STATES.map((state) => [state, rows.filter((row) => row.state === state).length] as const).filter(([, count]) => count > 0);
  if (counts.length === 0) return text("integrity.none");
  if (counts.length === 1 && counts[0]![0] === "synced") return rows.length === 1 ? text("integrity.one") : text("integrity.all", { n: whole(rows.length) });
  return counts.map(([state, count]) => text("integrity.count", { n: whole(count), state: stateName(state) })).join(", ");
}
