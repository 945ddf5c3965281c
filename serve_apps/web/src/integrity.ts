// Whether what is collected can be trusted: one cell per symbol, and a table with those in trouble first. Polled each
// second; a server that does not know yet keeps the section hidden, one that stops answering is said to.
import { momentFormat, secondsFormat } from "./format";
import { getJson, pause } from "./source";

const INTERVAL = 1000;
// More rows than anyone reads; those in trouble come first.
const MOST_ROWS = 200;
const DAY = 86_400_000;
const STATES = ["gapped", "stale", "syncing", "synced"] as const;
type State = (typeof STATES)[number];

interface Row {
  readonly exchange: string;
  readonly symbol: string;
  readonly state: State;
  /** Milliseconds since the epoch, 0 where it is not known. */
  readonly since: number;
  readonly why: string;
  readonly open: number;
  readonly closed: number;
}

/** Keeps the section up to date for as long as the page lives. */
export async function showIntegrity(section: HTMLElement): Promise<never> {
  const view = new IntegrityView(section);
  const forever = new AbortController().signal;
  for (;;) {
    try {
      view.show(read(await getJson("/api/v1/integrity", forever)));
    } catch {
      view.unknown();
    }
    await pause(INTERVAL, forever);
  }
}

class IntegrityView {
  private readonly summary: HTMLElement;
  private readonly strip: HTMLElement;
  private readonly body: HTMLElement;
  private readonly cells = new Map<string, HTMLElement>();
  private readonly lines = new Map<string, HTMLTableRowElement>();

  constructor(private readonly section: HTMLElement) {
    this.summary = section.querySelector<HTMLElement>("#integrity-summary")!;
    this.strip = section.querySelector<HTMLElement>("#integrity-strip")!;
    this.body = section.querySelector<HTMLElement>("#integrity-rows")!;
  }

  show(rows: readonly Row[]): void {
    this.section.hidden = rows.length === 0;
    this.section.classList.remove("unknown");
    const sorted = [...rows].sort(
      (a, b) => STATES.indexOf(a.state) - STATES.indexOf(b.state) || compare(a.exchange, b.exchange) || compare(a.symbol, b.symbol),
    );
    write(this.summary, summaryOf(rows));
    this.summary.dataset["state"] = sorted[0]?.state ?? "synced";
    this.drawStrip(rows);
    this.drawRows(sorted.slice(0, MOST_ROWS));
  }

  unknown(): void {
    if (this.section.hidden) return;
    this.section.classList.add("unknown");
    write(this.summary, "The server does not answer: this is what it said last");
    this.summary.dataset["state"] = "unknown";
  }

  private drawStrip(rows: readonly Row[]): void {
    const byExchange = new Map<string, Row[]>();
    for (const row of [...rows].sort((a, b) => compare(a.exchange, b.exchange) || compare(a.symbol, b.symbol))) {
      byExchange.set(row.exchange, [...(byExchange.get(row.exchange) ?? []), row]);
    }
    const groups = [...byExchange].map(([exchange, own]) => {
      const group = document.createElement("li");
      const name = document.createElement("span");
      name.textContent = exchange;
      group.append(name, ...own.map((row) => this.cell(row)));
      return group;
    });
    this.strip.replaceChildren(...groups);
  }

  /** The same element as before, so that a change of its colour is seen to fade. */
  private cell(row: Row): HTMLElement {
    const key = keyOf(row);
    const cell = this.cells.get(key) ?? document.createElement("i");
    this.cells.set(key, cell);
    cell.dataset["state"] = row.state;
    cell.title = `${row.symbol} ${row.state}${row.why ? `: ${row.why}` : ""}`;
    return cell;
  }

  private drawRows(rows: readonly Row[]): void {
    const lines = rows.map((row) => this.line(row));
    for (const [key, line] of this.lines) if (!lines.includes(line)) this.lines.delete(key);
    const shown = this.body.children;
    // Moving a line that stays where it is would end what the reader has marked or pointed at.
    if (shown.length !== lines.length || lines.some((line, at) => shown[at] !== line)) this.body.replaceChildren(...lines);
  }

  private line(row: Row): HTMLTableRowElement {
    const key = keyOf(row);
    let line = this.lines.get(key);
    if (!line) {
      const made = (line = document.createElement("tr"));
      // It would begin again when the line is moved.
      made.addEventListener("animationend", () => made.classList.remove("healed"));
      line.append(...Array.from({ length: 7 }, () => document.createElement("td")));
      this.lines.set(key, line);
    }
    const before = line.dataset["state"];
    line.dataset["state"] = row.state;
    if (row.state !== "synced") line.classList.remove("healed");
    else if (before !== undefined && before !== "synced") line.classList.add("healed");
    const texts = [row.exchange, row.symbol, row.state, since(row), String(row.open), String(row.closed), row.why];
    texts.forEach((text, at) => write(line.cells[at]!, text));
    return line;
  }
}

/** What is understood of the answer; rows that are not are left out. */
function read(body: unknown): Row[] {
  if (!Array.isArray(body)) throw new SyntaxError("not a list");
  return body.flatMap((one: unknown): Row[] => {
    const row = (one ?? {}) as Record<string, unknown>;
    const { exchange, symbol, state } = row;
    if (typeof exchange !== "string" || typeof symbol !== "string" || !STATES.includes(state as State)) return [];
    return [
      {
        exchange,
        symbol,
        state: state as State,
        since: number(row["since"]) / 1e6,
        why: typeof row["why"] === "string" ? row["why"] : "",
        open: number(row["gaps_open"]),
        closed: number(row["gaps_closed"]),
      },
    ];
  });
}

function summaryOf(rows: readonly Row[]): string {
  const counts = STATES.map((state) => [state, rows.filter((row) => row.state === state).length] as const).filter(([, count]) => count > 0);
  if (counts.length === 1 && counts[0]![0] === "synced") return rows.length === 1 ? "The symbol is synced" : `All ${rows.length} symbols are synced`;
  return counts.map(([state, count]) => `${count} ${state}`).join(", ");
}

function since({ since }: Row): string {
  if (since <= 0) return "—";
  return Date.now() - since < DAY ? secondsFormat.format(since) : momentFormat.format(since);
}

function keyOf({ exchange, symbol }: Row): string {
  return `${exchange} ${symbol}`;
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

function number(value: unknown): number {
  return typeof value === "number" ? value : 0;
}

function write(target: HTMLElement, text: string): void {
  if (target.textContent !== text) target.textContent = text;
}
