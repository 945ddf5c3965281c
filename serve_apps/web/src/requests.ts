// Asking the server over HTTP, and how long to wait before asking again.

const REQUEST_TIMEOUT = 10_000;
const FIRST_PAUSE = 500;
const LONGEST_PAUSE = 15_000;
const LONGEST_ASKED_PAUSE = 60_000;

/** The server answered, but not with what was asked for. */
export class Refused extends Error {
  readonly status: number;
  readonly retryAfter: number;
  readonly detail: string;

  constructor(status: number, retryAfter: number, detail: string) {
    super(detail || `status ${status}`);
    this.status = status;
    this.retryAfter = retryAfter;
    this.detail = detail;
  }
}

export async function get(path: string, signal?: AbortSignal, headers: HeadersInit = {}): Promise<Response> {
  const limit = AbortSignal.timeout(REQUEST_TIMEOUT);
  const response = await fetch(path, {
    headers: { accept: "*/*", ...headers },
    cache: "no-cache",
    signal: signal ? AbortSignal.any([signal, limit]) : limit,
  });
  if (!response.ok) throw await refusal(response);
  return response;
}

export async function getJson(path: string, signal?: AbortSignal, headers?: HeadersInit): Promise<unknown> {
  return (await get(path, signal, headers)).json();
}

/** Asks for a change, with `body` as JSON. */
export async function send(method: string, path: string, headers: Readonly<Record<string, string>>, body?: object): Promise<void> {
  const kind = body && { "content-type": "application/json" };
  const response = await fetch(path, {
    method,
    headers: { ...headers, ...kind },
    ...(body && { body: JSON.stringify(body) }),
    signal: AbortSignal.timeout(REQUEST_TIMEOUT),
  });
  if (!response.ok) throw await refusal(response);
}

async function refusal(response: Response): Promise<Refused> {
  const retryAfter = Number(response.headers.get("retry-after")) || 0;
  let detail = "";
  try {
    const body: unknown = await response.json();
    if (isRecord(body) && typeof body["detail"] === "string") detail = body["detail"];
  } catch {
    // no JSON: the status says enough
  }
  return new Refused(response.status, retryAfter, detail);
}

/** Milliseconds to wait after the n-th failure in a row: doubling with jitter, and as long as the server asks for. */
export function backOff(failures: number, error?: unknown, random: () => number = Math.random): number {
  const wait = Math.min(FIRST_PAUSE * 2 ** (failures - 1), LONGEST_PAUSE) * (0.5 + random() / 2);
  const asked = error instanceof Refused ? error.retryAfter * 1000 : 0;
  return Math.max(wait, Math.min(asked, LONGEST_ASKED_PAUSE));
}

/** Waits, but not longer than until the network or the tab comes back. */
export function pause(milliseconds: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const ended = new AbortController();
    const end = (): void => {
      clearTimeout(timer);
      ended.abort();
      resolve();
    };
    const timer = setTimeout(end, milliseconds);
    signal?.addEventListener("abort", end, { signal: ended.signal });
    window.addEventListener("online", end, { signal: ended.signal });
    document.addEventListener("visibilitychange", () => document.hidden || end(), { signal: ended.signal });
  });
}

/** Asks again and again for as long as the page lives, every `interval` ms, later while the server is away. */
export async function poll<Answer>(
  ask: () => Promise<Answer>,
  interval: number,
  answered: (answer: Answer) => void,
  failed: (error: unknown) => void,
): Promise<never> {
  let failures = 0;
  for (;;) {
    let answer: Answer | undefined;
    let error: unknown;
    try {
      answer = await ask();
      failures = 0;
    } catch (raised) {
      error = raised;
      failures++;
    }
    if (failures === 0) answered(answer as Answer);
    else failed(error);
    await pause(failures === 0 ? interval : Math.max(interval, backOff(failures, error)));
  }
}

export function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** The number, or undefined for anything else, NaN and infinities too. */
export function finite(value: unknown): number | undefined {
  return typeof value === "number" && Number.isFinite(value) ? value : undefined;
}

export function string(value: unknown): string {
  return typeof value === "string" ? value : "";
}
