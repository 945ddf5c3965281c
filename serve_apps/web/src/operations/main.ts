// The operations page: how the whole is and each of its parts, asked for again and again while it is looked at.
import { element, make } from "../elements.ts";
import { gapRow, newestGaps, type Gap } from "../gaps.ts";
import { onLanguage, text } from "../language.ts";
import { LiveFeed } from "../live/feed.ts";
import { getJson, pause, poll } from "../requests.ts";
import { showConnection, showFeeds, startShell } from "../shell.ts";
import { showActorRows, showCache, showFeedRows, showOverall, showReplicas } from "./health.ts";
import { IntegrityView } from "./integrity.ts";

const INTERVAL = 1000;
const SLOW_INTERVAL = 5000;
const GAPS_SHOWN = 100;

startShell();
const feed = new LiveFeed();
const integrity = new IntegrityView();
/** What was said last; undefined: nothing yet, or nobody answers. */
const said: { health?: unknown; at: number; status?: unknown; cache?: unknown; ready?: unknown; gaps?: readonly Gap[] | undefined } = { at: Date.now() };

showConnection(feed);
onLanguage(() => {
  draw();
  drawSlow();
  integrity.draw();
});
void showFeeds();
void poll(() => getJson("/api/v1/integrity"), INTERVAL, (rows) => integrity.show(rows), () => integrity.show(undefined));
void follow(INTERVAL, async () => {
  said.health = await anyStatus("/api/v1/health");
  said.at = Date.now();
  draw();
});
void follow(SLOW_INTERVAL, async () => {
  [said.status, said.cache, said.ready, said.gaps] = await Promise.all([
    anyStatus("/api/status"),
    anyStatus("/cache-stats"),
    anyStatus("/readyz"),
    newestGaps({ limit: String(GAPS_SHOWN) }).catch(() => undefined),
  ]);
  draw();
  drawSlow();
});

/** The answer, of 503 too, which says how bad it is; undefined where there is none. */
async function anyStatus(path: string): Promise<unknown> {
  try {
    const response = await fetch(path, { cache: "no-store", signal: AbortSignal.timeout(SLOW_INTERVAL) });
    return response.ok || response.status === 503 ? await response.json() : undefined;
  } catch {
    return undefined;
  }
}

async function follow(interval: number, ask: () => Promise<void>): Promise<never> {
  for (;;) {
    if (!document.hidden) await ask();
    await pause(interval);
  }
}

function draw(): void {
  showOverall(said.health, said.at);
  // What was known stays while nobody answers.
  if (said.health === undefined) return;
  showFeedRows(said.health, said.status);
  showActorRows(said.health);
  showReplicas(said.health, said.ready);
}

function drawSlow(): void {
  showCache(said.cache);
  const rows = (said.gaps ?? []).map((gap) => gapRow(gap, true));
  const none = make("tr", {}, make("td", { class: "note", text: text(said.gaps ? "gaps.none" : "gaps.unknown"), attributes: { colspan: "7" } }));
  element("gap-rows").replaceChildren(...(rows.length ? rows : [none]));
}
