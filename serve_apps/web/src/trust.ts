// How far the data of a symbol can be trusted, as the server says it, and the badge that shows it.
import { make, write } from "./elements.ts";
import { isKey, text } from "./language.ts";
import { finite, isRecord, string } from "./requests.ts";

/** From worst to best. */
export const STATES = ["gapped", "stale", "syncing", "synced"] as const;
export type State = (typeof STATES)[number];

export interface Trust {
  readonly exchange: string;
  readonly symbol: string;
  readonly state: State;
  /** Milliseconds since the epoch, 0 where it is not known. */
  readonly since: number;
  readonly why: string;
  readonly proof: string;
  readonly missing: number;
  readonly open: number;
  readonly closed: number;
}

/** What is understood of a row; undefined for what is not. */
export function readTrust(row: unknown, exchange?: string, symbol?: string): Trust | undefined {
  if (!isRecord(row)) return undefined;
  const state = STATES.find((known) => known === row["state"]);
  const [ownExchange, ownSymbol] = [exchange ?? string(row["exchange"]), symbol ?? string(row["symbol"])];
  if (!state || !ownExchange || !ownSymbol) return undefined;
  return {
    exchange: ownExchange,
    symbol: ownSymbol,
    state,
    since: (finite(row["since"]) ?? 0) / 1e6,
    why: string(row["why"]),
    proof: string(row["proof"]),
    missing: finite(row["missing"]) ?? 0,
    open: finite(row["gaps_open"]) ?? 0,
    closed: finite(row["gaps_closed"]) ?? 0,
  };
}

export function stateName(state: string): string {
  const key = `trust.${state}`;
  return isKey(key) ? text(key) : state;
}

export function badge(): HTMLElement {
  return make("span", { class: "badge", attributes: { "data-state": "unknown" } });
}

/** Shows a state, or that nothing is known yet. */
export function showBadge(badge: HTMLElement, trust: Trust | undefined): void {
  badge.dataset["state"] = trust?.state ?? "unknown";
  badge.title = trust?.why ?? "";
  write(badge, stateName(trust?.state ?? "unknown"));
}
