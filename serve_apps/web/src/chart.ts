// Candles and volume of one instrument on one time axis. Keeps the bars it shows; colours come from the style sheet.
import {
  CandlestickSeries,
  createChartEx,
  CrosshairMode,
  HistogramSeries,
  type CandlestickData,
  type HistogramData,
  type IChartApiBase,
  type ISeriesApi,
  type MouseEventParams,
  type Time,
  type UTCTimestamp,
} from "lightweight-charts";
import { momentFormat, priceDecimals, priceFormat, volumeFormat } from "./format";
import type { Bar } from "./source";
import { LocalTimeScale } from "./time_scale";

// In rem: the wider, the fewer bars there are.
const BAR_SPACING = 0.5;
const WIDEST_BAR_SPACING = 1.5;
const RIGHT_OFFSET = 4; // bars
const SCROLL_STEP = 5; // bars per key press

export class PriceChart {
  private readonly chart: IChartApiBase<Time>;
  private readonly candles: ISeriesApi<"Candlestick", Time>;
  private readonly volume: ISeriesApi<"Histogram", Time>;
  private bars: Bar[] = [];
  private decimals = 0;
  private hovered: number | undefined;
  private rising = "";
  private falling = "";

  /** Calls `viewChanged` after the bars, the bar under the pointer or the visible range changed. */
  constructor(
    private readonly container: HTMLElement,
    private readonly viewChanged: () => void,
  ) {
    this.chart = createChartEx<Time, LocalTimeScale>(container, new LocalTimeScale(), {
      autoSize: true,
      layout: { attributionLogo: false, fontFamily: getComputedStyle(container).fontFamily },
      crosshair: { mode: CrosshairMode.Normal },
      localization: { timeFormatter: (time: Time) => momentFormat.format((time as number) * 1000) },
      rightPriceScale: { borderVisible: false },
      timeScale: { borderVisible: false, rightOffset: RIGHT_OFFSET, timeVisible: true },
    });
    this.candles = this.chart.addSeries(CandlestickSeries, { borderVisible: false });
    this.volume = this.chart.addSeries(
      HistogramSeries,
      { priceFormat: { type: "volume" }, priceLineVisible: false, lastValueVisible: false },
      1,
    );
    this.volume.applyOptions({
      priceFormat: { type: "custom", minMove: 1e-8, formatter: (volume: number) => volumeFormat.format(volume) },
    });
    this.volume.priceScale().applyOptions({ scaleMargins: { top: 0.12, bottom: 0 } });
    this.candles.priceScale().applyOptions({ scaleMargins: { top: 0.1, bottom: 0.08 } });
    const [prices, volumes] = this.chart.panes();
    prices?.setStretchFactor(0.8);
    volumes?.setStretchFactor(0.2);
    this.chart.subscribeCrosshairMove((event: MouseEventParams<Time>) => {
      this.hovered = event.point && event.logical !== undefined ? Math.round(event.logical) : undefined;
      this.viewChanged();
    });
    this.chart.timeScale().subscribeVisibleLogicalRangeChange(() => this.viewChanged());
    container.addEventListener("keydown", (event) => this.keyPressed(event));
    new ResizeObserver(() => this.resize()).observe(container);
    this.paint();
  }

  get last(): Bar | undefined {
    return this.bars.at(-1);
  }

  /** The bar under the pointer, else the last one. */
  get pointed(): Bar | undefined {
    return (this.hovered === undefined ? undefined : this.bars[this.hovered]) ?? this.last;
  }

  /** The first bar in view. */
  get firstVisible(): Bar | undefined {
    const range = this.chart.timeScale().getVisibleLogicalRange();
    const first = Math.max(0, Math.ceil(range?.from ?? 0));
    return this.bars[Math.min(first, this.bars.length - 1)];
  }

  get showsLast(): boolean {
    return this.chart.timeScale().scrollPosition() > -1;
  }

  get price(): Intl.NumberFormat {
    return priceFormat(this.decimals);
  }

  /** Shows these bars instead of all earlier ones, at the same place unless there were none. */
  replace(bars: readonly Bar[]): void {
    const first = this.bars.length === 0;
    this.bars = [...bars];
    this.decimals = 0;
    this.fitDecimals(bars);
    this.candles.setData(bars.map(candleOf));
    this.volume.setData(bars.map((bar) => this.columnOf(bar)));
    if (first) this.showLatest();
    this.viewChanged();
  }

  /** Puts newer bars at the end and replaces those of the same time. */
  change(bars: readonly Bar[]): void {
    this.fitDecimals(bars);
    for (const bar of bars) {
      let index = this.bars.length;
      while (index > 0 && this.bars[index - 1]!.time >= bar.time) index--;
      const known = this.bars[index];
      if (known && known.time !== bar.time) {
        this.bars.splice(index, 0, bar);
        return this.replace(this.bars);
      }
      const old = index < this.bars.length - 1;
      this.bars[index] = bar;
      if (known && sameBar(known, bar)) continue;
      this.candles.update(candleOf(bar), old);
      this.volume.update(this.columnOf(bar), old);
    }
    this.viewChanged();
  }

  showLatest(): void {
    const scale = this.chart.timeScale();
    const filling = scale.width() / (this.bars.length + RIGHT_OFFSET) / rem();
    scale.applyOptions({ barSpacing: Math.max(BAR_SPACING, Math.min(WIDEST_BAR_SPACING, filling)) * rem() });
    scale.scrollToPosition(RIGHT_OFFSET, false);
  }

  /** Takes the colours of the current theme. */
  paint(): void {
    const colour = colours(this.container);
    const line = colour("--line");
    this.rising = colour("--up");
    this.falling = colour("--down");
    const crosshair = { color: colour("--muted"), labelBackgroundColor: colour("--label") };
    this.chart.applyOptions({
      layout: {
        background: { color: colour("--surface") },
        textColor: colour("--muted"),
        panes: { separatorColor: line, separatorHoverColor: colour("--hover") },
      },
      grid: { vertLines: { color: colour("--grid") }, horzLines: { color: colour("--grid") } },
      crosshair: { vertLine: crosshair, horzLine: crosshair },
    });
    this.candles.applyOptions({
      upColor: this.rising,
      wickUpColor: this.rising,
      downColor: this.falling,
      wickDownColor: this.falling,
    });
    this.volume.setData(this.bars.map((bar) => this.columnOf(bar)));
  }

  private fitDecimals(bars: readonly Bar[]): void {
    const decimals = Math.max(this.decimals, priceDecimals(bars));
    if (decimals === this.decimals) return;
    this.decimals = decimals;
    const format = this.price;
    this.candles.applyOptions({
      priceFormat: { type: "custom", minMove: 10 ** -decimals, formatter: (price: number) => format.format(price) },
    });
  }

  private columnOf(bar: Bar): HistogramData<Time> {
    const colour = bar.close < bar.open ? this.falling : this.rising;
    return { time: timeOf(bar), value: bar.volume, color: colour.replace(/^rgb\((.*)\)$/, "rgba($1, 0.45)") };
  }

  private resize(): void {
    this.chart.applyOptions({ layout: { fontSize: Math.round(0.75 * rem()) } });
  }

  private keyPressed(event: KeyboardEvent): void {
    const scale = this.chart.timeScale();
    const zoom = (factor: number): void =>
      scale.applyOptions({ barSpacing: Math.min(60, Math.max(1, scale.options().barSpacing * factor)) });
    const scroll = (bars: number): void => scale.scrollToPosition(scale.scrollPosition() + bars, false);
    const actions: Record<string, () => void> = {
      ArrowLeft: () => scroll(-SCROLL_STEP),
      ArrowRight: () => scroll(SCROLL_STEP),
      "+": () => zoom(1.25),
      "=": () => zoom(1.25),
      "-": () => zoom(0.8),
      Home: () => scale.fitContent(),
      End: () => this.showLatest(),
    };
    const action = actions[event.key];
    if (!action || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    action();
  }
}

function timeOf(bar: Bar): UTCTimestamp {
  return (bar.time / 1000) as UTCTimestamp;
}

function candleOf(bar: Bar): CandlestickData<Time> {
  return { time: timeOf(bar), open: bar.open, high: bar.high, low: bar.low, close: bar.close };
}

function sameBar(a: Bar, b: Bar): boolean {
  return a.open === b.open && a.high === b.high && a.low === b.low && a.close === b.close && a.volume === b.volume;
}

function rem(): number {
  return Number.parseFloat(getComputedStyle(document.documentElement).fontSize);
}

/** Custom properties as colours a canvas understands: `light-dark()` is only resolved in a real property. */
function colours(element: HTMLElement): (name: string) => string {
  return (name) => {
    element.style.color = `var(${name})`;
    const { color } = getComputedStyle(element);
    element.style.color = "";
    return color;
  };
}
