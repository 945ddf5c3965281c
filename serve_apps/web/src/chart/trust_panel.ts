// How far the symbol on the chart can be trusted: its badge, why, and its gaps.
import { make, write } from "../elements.ts";
import { recently, whole } from "../format.ts";
import { gapRow, newestGaps, type Gap } from "../gaps.ts";
import type { Instrument } from "../instruments.ts";
import { text } from "../language.ts";
import type { LiveFeed, Message } from "../live/feed.ts";
import { readTrust, showBadge, type Trust } from "../trust.ts";

const GAPS_SHOWN = 20;

export class TrustPanel {
  private unsubscribe = (): void => {};
  private instrument: Instrument | undefined;
  private trust: Trust | undefined;
  private gaps: readonly Gap[] | undefined;
  private readonly why: HTMLElement;
  private readonly body: HTMLElement;

  /** `badges` show the state too. */
  constructor(
    section: HTMLElement,
    private readonly badges: readonly HTMLElement[],
    private readonly feed: LiveFeed,
  ) {
    this.why = section.querySelector<HTMLElement>(".summary")!;
    this.body = section.querySelector<HTMLElement>("tbody")!;
    feed.onState((state) => {
      if (state !== "reconnecting") return;
      this.trust = undefined;
      this.draw();
    });
  }

  follow(instrument: Instrument): void {
    this.unsubscribe();
    this.instrument = instrument;
    this.trust = this.gaps = undefined;
    this.draw();
    const take = (message: Message): void => {
      const before = this.trust;
      this.trust = readTrust(message.data.at(-1), message.exchange, message.symbol) ?? this.trust;
      if (this.trust?.state !== before?.state || this.trust?.closed !== before?.closed || this.trust?.open !== before?.open) void this.ask();
      this.draw();
    };
    this.unsubscribe = this.feed.subscribe(`integrity:${instrument.exchange}:${instrument.symbol}`, 0, { snapshot: take, update: take });
    void this.ask();
  }

  draw(): void {
    const { trust, gaps } = this;
    for (const badge of this.badges) showBadge(badge, trust);
    write(this.why, trust ? sentence(trust) : text("trust.waiting"));
    const rows = (gaps ?? []).map((gap) => gapRow(gap, false));
    const none = make("tr", {}, make("td", { class: "note", text: text(gaps ? "gaps.none" : "gaps.unknown"), attributes: { colspan: "5" } }));
    this.body.replaceChildren(...(rows.length ? rows : [none]));
  }

  private async ask(): Promise<void> {
    const asked = this.instrument;
    if (!asked) return;
    try {
      const gaps = await newestGaps({ ...asked, limit: String(GAPS_SHOWN) });
      if (asked === this.instrument) this.gaps = gaps;
    } catch {
      // what was known stays
    }
    if (asked === this.instrument) this.draw();
  }
}

function sentence(trust: Trust): string {
  const parts = [trust.why || text(`trust.says.${trust.state}`)];
  if (trust.since > 0) parts.push(text("trust.since", { when: recently(trust.since) }));
  if (trust.open + trust.closed > 0) parts.push(text("trust.gaps", { open: whole(trust.open), closed: whole(trust.closed) }));
  return parts.join(" · ");
}
