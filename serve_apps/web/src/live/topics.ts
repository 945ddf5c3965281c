// Topics of the live feed, `topic:exchange:symbol:timeframe`, and whether a pattern covers what a message is about. Pure.

export interface Parts {
  readonly topic: string;
  readonly exchange: string;
  readonly symbol: string;
  readonly timeframe: string;
}

const WITHOUT_EXCHANGE = new Set(["dashboard"]);
const WITH_TIMEFRAME = new Set(["bars", "indicators"]);
const TIMEFRAME = /^(\*|1s|1m|5m|15m|1h|4h|1d)$/;

/** Names of symbols may have a colon. */
export function parts(text: string): Parts {
  const [topic = "", ...rest] = text.split(":");
  const exchange = WITHOUT_EXCHANGE.has(topic) ? "" : (rest.shift() ?? "*");
  let timeframe = "";
  if (WITH_TIMEFRAME.has(topic)) timeframe = rest.length > 1 && TIMEFRAME.test(rest.at(-1)!) ? rest.pop()! : "1m";
  return { topic, exchange, symbol: rest.join(":") || "*", timeframe };
}

export function covers(pattern: Parts, message: Parts): boolean {
  return (
    pattern.topic === message.topic &&
    (pattern.exchange === "*" || pattern.exchange === message.exchange) &&
    (pattern.timeframe === "*" || pattern.timeframe === message.timeframe) &&
    matches(pattern.symbol, message.symbol)
  );
}

function matches(pattern: string, symbol: string): boolean {
  if (!pattern.includes("*")) return pattern === symbol;
  const escaped = pattern.split(/\*+/).map((part) => part.replace(/[.*+?^${}()|[\]\\]/g, "\\$&"));
  return new RegExp(`^${escaped.join(".*")}$`, "s").test(symbol);
}
