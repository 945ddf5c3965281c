// The live feed over one WebSocket, for as long as the page lives: connects again for ever, resumes trades and alerts
// after the last one that came, and asks for the present state of everything else.
import { backOff, isRecord, pause } from "../requests.ts";
import { covers, parts, type Parts } from "./topics.ts";

export type State = "connecting" | "live" | "reconnecting";

export interface Message {
  readonly type: string;
  readonly topic: string;
  readonly seq: number;
  readonly exchange: string;
  readonly symbol: string;
  readonly timeframe: string;
  readonly data: readonly Record<string, unknown>[];
}

export interface Listener {
  /** What is known at the start, and again when updates may have been missed. */
  snapshot(message: Message): void;
  update(message: Message): void;
}

interface Subscription {
  readonly topic: string;
  readonly parts: Parts;
  readonly rate: number;
  readonly listener: Listener;
}

/** Every one of these matters: they are resumed; of others the newest is all there is to know. */
const RESUMED = new Set(["trades", "alerts"]);
const HEARTBEATS = 3;
const FIRST_HEARTBEAT = 15;
const TOO_MANY_MESSAGES = 1008;
/** Between turns in which topics are begun and ended (ms): the server closes a connection that says too much. */
const PACE = 250;

export class LiveFeed {
  private readonly subscriptions = new Set<Subscription>();
  private socket: WebSocket | undefined;
  private open = false;
  private state: State = "connecting";
  private readonly watchers: ((state: State) => void)[] = [];
  private newest = 0;
  private heardAt = 0;
  private silence = FIRST_HEARTBEAT * HEARTBEATS * 1000;
  private begun = new Set<Subscription>();
  private left = new Set<string>();
  private gathering = false;
  private toldAt = -Infinity;

  constructor(private readonly address = liveAddress()) {
    void this.run();
    setInterval(() => this.watch(), 1000);
  }

  /** Calls `watcher` with the state, now and whenever it changes. */
  onState(watcher: (state: State) => void): void {
    this.watchers.push(watcher);
    watcher(this.state);
  }

  /** Updates of `topic`, at most `rate` a second of each key (0: all), until the returned function is called. */
  subscribe(topic: string, rate: number, listener: Listener): () => void {
    const subscription = { topic, parts: parts(topic), rate, listener };
    this.subscriptions.add(subscription);
    this.begun.add(subscription);
    this.gather();
    return () => {
      this.subscriptions.delete(subscription);
      this.begun.delete(subscription);
      this.left.add(topic);
      this.gather();
    };
  }

  private async run(): Promise<never> {
    for (let failures = 0; ; ) {
      const { lived, code } = await this.connection();
      failures = lived ? 1 : failures + 1;
      this.change("reconnecting");
      await pause(backOff(code === TOO_MANY_MESSAGES ? Math.max(failures, 4) : failures));
    }
  }

  private connection(): Promise<{ lived: boolean; code: number }> {
    return new Promise((resolve) => {
      const socket = (this.socket = new WebSocket(this.address));
      this.heardAt = performance.now();
      let lived = false;
      socket.onmessage = (event) => {
        if (socket !== this.socket) return;
        this.heardAt = performance.now();
        const said: unknown = JSON.parse(String(event.data));
        if (!isRecord(said)) return;
        if (said["type"] === "welcome") {
          lived = true;
          this.welcomed(said);
        } else this.heard(said);
      };
      // A connection that is given up on may take minutes to say that it has ended.
      socket.onclose = (event) => {
        if (socket !== this.socket) return;
        this.open = false;
        this.socket = undefined;
        resolve({ lived, code: event.code });
      };
    });
  }

  private welcomed(said: Record<string, unknown>): void {
    if (typeof said["heartbeat_s"] === "number") this.silence = said["heartbeat_s"] * HEARTBEATS * 1000;
    this.open = true;
    this.begun.clear();
    this.left.clear();
    this.ask([...this.subscriptions], this.newest || undefined);
    this.change("live");
  }

  private heard(said: Record<string, unknown>): void {
    if (said["type"] === "gap") {
      // Something was lost on the way here: what there is now is asked for anew.
      this.ask([...this.subscriptions]);
      return;
    }
    if (said["type"] !== "update" && said["type"] !== "snapshot") return;
    const topic = parts(String(said["topic"] ?? ""));
    const message: Message = {
      type: said["type"],
      topic: topic.topic,
      seq: Number(said["seq"]),
      exchange: String(said["exchange"] ?? topic.exchange),
      symbol: String(said["symbol"] ?? topic.symbol),
      timeframe: String(said["timeframe"] ?? topic.timeframe),
      data: Array.isArray(said["data"]) ? (said["data"] as Record<string, unknown>[]) : [],
    };
    if (RESUMED.has(message.topic)) this.newest = Math.max(this.newest, message.seq);
    for (const { parts, listener } of this.subscriptions) {
      if (!covers(parts, message)) continue;
      if (message.type === "update") listener.update(message);
      else listener.snapshot(message);
    }
  }

  /** Says what begins and ends, together with what else does in this turn, or until the next may be told. */
  private gather(): void {
    if (!this.open || this.gathering) return;
    this.gathering = true;
    const wait = this.toldAt + PACE - performance.now();
    if (wait > 0) setTimeout(() => this.tell(), wait);
    else queueMicrotask(() => this.tell());
  }

  private tell(): void {
    this.gathering = false;
    if (!this.open) return;
    this.toldAt = performance.now();
    const followed = new Set([...this.subscriptions].map(({ topic }) => topic));
    const left = [...this.left].filter((topic) => !followed.has(topic));
    // Without topics it would be all of them.
    if (left.length) this.say({ type: "unsubscribe", topics: left });
    this.ask([...this.begun]);
    this.begun.clear();
    this.left.clear();
  }

  private ask(subscriptions: readonly Subscription[], since?: number): void {
    const groups = new Map<string, { topics: Set<string>; rate: number; since: number | undefined }>();
    for (const { topic, rate, parts } of subscriptions) {
      const from = RESUMED.has(parts.topic) ? since : undefined;
      const key = `${rate} ${from}`;
      const group = groups.get(key) ?? { topics: new Set(), rate, since: from };
      group.topics.add(topic);
      groups.set(key, group);
    }
    for (const { topics, rate, since } of groups.values()) this.say({ type: "subscribe", topics: [...topics], rate, since });
  }

  private say(said: object): void {
    if (this.socket?.readyState === WebSocket.OPEN) this.socket.send(JSON.stringify(said));
  }

  /** A connection that hears nothing is dead, whatever the socket says. */
  private watch(): void {
    const { socket } = this;
    if (!socket || performance.now() - this.heardAt < this.silence) return;
    socket.close();
    socket.onclose?.(new CloseEvent("close", { code: 1006 }));
  }

  private change(state: State): void {
    if (state === this.state) return;
    this.state = state;
    for (const watcher of this.watchers) watcher(state);
  }
}

function liveAddress(): string {
  return `${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/ws`;
}
