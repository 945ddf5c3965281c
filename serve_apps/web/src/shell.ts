// What every page has around its own: language, theme, the state of the connection, and the feeds at its foot.
import { element, make, write } from "./elements.ts";
import { chooseLanguage, isKey, language, onLanguage, startLanguage, text } from "./language.ts";
import type { LiveFeed } from "./live/feed.ts";
import { duration } from "./format.ts";
import { finite, isRecord, pause, string } from "./requests.ts";
import { read, write as keep } from "./storage.ts";

const THEME = "theme";
const FEEDS_INTERVAL = 5000;
const REQUEST_TIMEOUT = 5000;
const GOOD = new Set(["live", "ready", "ok", "synced", "connected", "streaming"]);

/** Before anything is painted; `repaint` is called after the theme changed. */
export function startShell(repaint: () => void = () => undefined): void {
  startLanguage();
  const button = element("language");
  button.addEventListener("click", () => chooseLanguage(language() === "vi" ? "en" : "vi"));
  followTheme(element("theme"), repaint);
}

/** Follows the system until the reader switches. */
function followTheme(button: HTMLElement, repaint: () => void): void {
  const system = matchMedia("(prefers-color-scheme: dark)");
  const kept = read(THEME);
  let own = kept === "light" || kept === "dark" ? kept : undefined;
  const apply = (): void => {
    const theme = own ?? (system.matches ? "dark" : "light");
    document.documentElement.dataset["theme"] = theme;
    label();
    repaint();
  };
  const label = (): void => {
    const dark = document.documentElement.dataset["theme"] === "dark";
    button.setAttribute("aria-label", text(dark ? "header.to_light" : "header.to_dark"));
  };
  system.addEventListener("change", apply);
  button.addEventListener("click", () => {
    own = document.documentElement.dataset["theme"] === "dark" ? "light" : "dark";
    keep(THEME, own);
    apply();
  });
  onLanguage(label);
  apply();
}

/** Says in the header how the live feed is. */
export function showConnection(feed: LiveFeed): void {
  const target = element("connection");
  let state = "connecting";
  const show = (): void => {
    target.dataset["state"] = state;
    write(target, text(`connection.${state as "connecting" | "live" | "reconnecting"}`));
  };
  feed.onState((now) => {
    state = now;
    show();
  });
  onLanguage(show);
}

/** One badge per exchange, from /readyz, for as long as the page lives. What is not understood is left out. */
export async function showFeeds(): Promise<never> {
  const list = element("feeds");
  let said: unknown;
  const show = (): void => list.replaceChildren(...badges(said));
  onLanguage(show);
  for (;;) {
    said = await readiness();
    show();
    await pause(FEEDS_INTERVAL);
  }
}

async function readiness(): Promise<unknown> {
  try {
    const response = await fetch("/readyz", { cache: "no-store", signal: AbortSignal.timeout(REQUEST_TIMEOUT) });
    return await response.json(); // 503 says what is not ready in the same shape
  } catch {
    return null; // the state of the connection says so
  }
}

function badges(body: unknown): HTMLElement[] {
  const feeds = isRecord(body) && isRecord(body["feeds"]) ? body["feeds"] : {};
  return Object.entries(feeds).map(([exchange, feed]) => {
    const state = isRecord(feed) ? string(feed["state"]) : "";
    const lag = isRecord(feed) ? finite(feed["lag_ms"]) : undefined;
    const name = make("span", { text: exchange, data: true });
    const detail = make("span", { class: "detail", text: `${feedState(state)}${lag === undefined ? "" : ` · ${duration(lag)}`}` });
    return make("li", { class: "feed", attributes: { "data-good": String(GOOD.has(state)) } }, name, " ", detail);
  });
}

/** The name of a state that a feed says it is in. */
export function feedState(state: string): string {
  const key = `feed.${state || "unknown"}`;
  return isKey(key) ? text(key) : state;
}
