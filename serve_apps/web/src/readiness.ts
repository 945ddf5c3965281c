// One badge per exchange, from /readyz. The answer may grow or lack feeds; what is not understood is left out.
import { pause } from "./source";

const INTERVAL = 5000;
const REQUEST_TIMEOUT = 5000;
const GOOD = new Set(["live", "ready", "ok", "synced", "connected", "streaming"]);

/** Keeps the list up to date for as long as the page lives. */
export async function showFeeds(list: HTMLElement): Promise<never> {
  const forever = new AbortController().signal;
  for (;;) {
    list.replaceChildren(...badges(await readiness()));
    await pause(INTERVAL, forever);
  }
}

async function readiness(): Promise<unknown> {
  try {
    const response = await fetch("/readyz", { cache: "no-store", signal: AbortSignal.timeout(REQUEST_TIMEOUT) });
    return await response.json(); // 503 says what is not ready in the same shape
  } catch {
    return null; // the connection state already says so
  }
}

function badges(body: unknown): HTMLElement[] {
  const feeds = (body as { feeds?: unknown } | null)?.feeds;
  if (typeof feeds !== "object" || feeds === null) return [];
  return Object.entries(feeds).map(([exchange, feed]: [string, unknown]) => {
    const { state, lag_ms: lag } = (feed ?? {}) as { state?: unknown; lag_ms?: unknown };
    const badge = document.createElement("li");
    const name = typeof state === "string" ? state : "unknown";
    badge.className = "badge";
    badge.dataset["good"] = String(GOOD.has(name));
    badge.append(exchange, " ", detail(typeof lag === "number" ? `${name} · ${duration(lag)}` : name));
    return badge;
  });
}

function detail(text: string): HTMLElement {
  const element = document.createElement("span");
  element.textContent = text;
  return element;
}

function duration(milliseconds: number): string {
  if (milliseconds < 1000) return `${Math.round(milliseconds)} ms`;
  if (milliseconds < 60_000) return `${(milliseconds / 1000).toFixed(1)} s`;
  return `${Math.round(milliseconds / 60_000)} min`;
}
