// What `/api/v1/health`, `/api/status`, `/readyz` and `/cache-stats` say, as tables.
import { element, make, write } from "../elements.ts";
import { clockSeconds, duration, percent, whole } from "../format.ts";
import { isKey, text } from "../language.ts";
import { finite, isRecord, string } from "../requests.ts";
import { feedState } from "../shell.ts";

type Said = Readonly<Record<string, unknown>>;

/** Of the whole, with what is wrong. Undefined: nobody answers. */
export function showOverall(health: unknown, at: number): void {
  const said = isRecord(health) ? health : undefined;
  const status = string(said?.["status"]);
  const key = `operations.${status}`;
  const section = element("overall");
  section.dataset["state"] = said ? (status === "healthy" ? "synced" : status === "degraded" ? "syncing" : "gapped") : "unknown";
  write("status", said ? (isKey(key) ? text(key) : status) : text("operations.away"));
  const reasons = Array.isArray(said?.["reasons"]) ? said["reasons"] : [];
  element("reasons").replaceChildren(...reasons.map((reason) => make("li", { text: String(reason), data: true })));
  write("asked", text("operations.asked", { when: clockSeconds(at) }));
}

/** A row for each exchange; `stored` is what `/api/status` says of it. */
export function showFeedRows(health: unknown, status: unknown): void {
  const components = isRecord(health) && isRecord(health["components"]) ? health["components"] : {};
  const feeds = isRecord(health) && isRecord(health["feeds"]) ? health["feeds"] : {};
  const stored = new Map((isRecord(status) && Array.isArray(status["exchanges"]) ? status["exchanges"] : []).filter(isRecord).map((row) => [string(row["exchange"]), finite(row["last_update"])]));
  const rows = Object.entries(feeds).sort().map(([exchange, feed]) => {
    const own: Said = isRecord(feed) ? feed : {};
    const collector = components[`collector:${exchange}`];
    const part: Said = isRecord(collector) ? collector : {};
    const books = isRecord(part["book_states"]) ? part["book_states"] : {};
    const all = Object.values(books).reduce((sum: number, count) => sum + (finite(count) ?? 0), 0);
    const state = string(own["state"]);
    const last = stored.get(exchange);
    return make(
      "tr",
      {},
      make("th", { text: exchange, data: true, attributes: { scope: "row" } }),
      make("td", {}, make("span", { class: "badge", text: feedState(state), attributes: { "data-state": state === "streaming" ? "synced" : "gapped" } })),
      number(ms(own["lag_ms"])),
      number(ms(own["data_s"], 1000)),
      number(count(part["symbols"])),
      number(all ? `${whole(finite(books["synced"]) ?? 0)} / ${whole(all)}` : "—"),
      number(count(part["batches_in_flight"])),
      make("td", { text: last ? text("operations.ago", { ago: duration(Math.max(0, Date.now() - last * 1000)) }) : text("operations.never") }),
      make("td", { class: "why", text: string(own["last_error"]), data: true }),
    );
  });
  element("feed-rows").replaceChildren(...rows);
}

export function showActorRows(health: unknown): void {
  const components = isRecord(health) && isRecord(health["components"]) ? health["components"] : {};
  const rows = Object.entries(components).sort().map(([name, said]) => {
    const part: Said = isRecord(said) ? said : {};
    const status = string(part["status"]);
    const key = `operations.part.${status}`;
    return make(
      "tr",
      {},
      make("th", { text: name, data: true, attributes: { scope: "row" } }),
      make("td", {}, make("span", { class: "badge", text: isKey(key) ? text(key) : status, attributes: { "data-state": status === "ok" ? "synced" : "gapped" } })),
      number(finite(part["age_s"]) === undefined ? "—" : text("operations.ago", { ago: ms(part["age_s"], 1000) })),
      number(count(part["pending"])),
      number(count(part["dropped"])),
      make("td", { class: "why", text: aboutPart(part), data: true }),
    );
  });
  element("actor-rows").replaceChildren(...rows);
}

/** What a part says of itself besides what has a column. */
function aboutPart(part: Said): string {
  const said = [string(part["failure"]), string(part["last_error"])].filter((one, at, all) => one && all.indexOf(one) === at);
  for (const name of ["kind", "state", "spooled_bytes", "rows_written", "duplicates", "tables_dropped", "tables_rejected", "bytes_pending"]) {
    const value = part[name];
    if (typeof value === "string" && value) said.push(value);
    else if (typeof value === "number") said.push(`${name} ${whole(value)}`);
  }
  const { symbols } = part;
  if (isRecord(symbols)) said.push(Object.entries(symbols).map(([exchange, names]) => `${exchange} ${Array.isArray(names) ? names.length : 0}`).join(", "));
  return said.join(" · ");
}

export function showCache(stats: unknown): void {
  const said: Said = isRecord(stats) ? stats : {};
  const total = isRecord(said["total"]) ? said["total"] : {};
  const rate = finite(said["hit_rate"]);
  const facts: [string, string][] = [
    [text("operations.hit_rate"), rate === undefined ? "—" : percent(rate, "auto", 1)],
    [text("operations.cache_redis"), said["redis"] === undefined ? "—" : text(said["redis"] === true ? "operations.yes" : "operations.no")],
  ];
  for (const [name, value] of Object.entries(total)) {
    const key = `cache.${name}`;
    if (isKey(key)) facts.push([text(key), whole(finite(value) ?? 0)]);
  }
  if (Object.keys(total).length === 0) facts.push([text("operations.no_counts"), ""]);
  showFacts(element("cache"), facts);
}

export function showReplicas(health: unknown, ready: unknown): void {
  const components = isRecord(health) && isRecord(health["components"]) ? health["components"] : {};
  const told = isRecord(components["metrics"]) ? components["metrics"]["replicas"] : undefined;
  const silent = isRecord(ready) && Array.isArray(ready["not_answering"]) ? ready["not_answering"].map(String) : [];
  const status = isRecord(ready) ? string(ready["status"]) : "";
  const replicas = Object.entries(isRecord(told) ? told : {}).map(([name, number]): [string, string] => [text("operations.of", { name }), count(number)]);
  showFacts(element("replicas"), [
    ...(replicas.length ? replicas : [[text("operations.no_counts"), ""] as [string, string]]),
    [text("operations.ready"), status === "" ? "—" : text(status === "starting" ? "operations.no" : "operations.yes")],
    [text("operations.silent"), silent.length ? silent.join(", ") : text("operations.nobody")],
  ]);
}

function showFacts(list: HTMLElement, facts: readonly (readonly [string, string])[]): void {
  list.replaceChildren(...facts.map(([name, value]) => make("div", {}, make("dt", { text: name }), make("dd", { text: value }))));
}

function number(said: string): HTMLTableCellElement {
  return make("td", { class: "number", text: said });
}

function ms(value: unknown, factor = 1): string {
  const known = finite(value);
  return known === undefined ? "—" : duration(known * factor);
}

function count(value: unknown): string {
  const known = finite(value);
  return known === undefined ? "—" : whole(known);
}
