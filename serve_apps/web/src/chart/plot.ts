// Draws a part of the bars: candles, volume and indicators in panes on one time axis. It holds no more candles than fit
// on a few screens, made anew from the columns as the reader moves; colours come from the style sheet.
import {
  CandlestickSeries,
  createChartEx,
  CrosshairMode,
  HistogramSeries,
  LineSeries,
  LineStyle,
  PriceScaleMode,
  type IChartApiBase,
  type IPriceLine,
  type ISeriesApi,
  type SeriesType,
  type Time,
  type UTCTimestamp,
} from "lightweight-charts";
import { clockMilliseconds, compact, decimal, decimalsOfAll, moment, percent, price } from "../format.ts";
import type { Level } from "./alerts_panel.ts";
import type { Bar, BarStore } from "./bar_store.ts";
import { asOf, candle, candles, lastOfEach, windowFor, type Window } from "./candles.ts";
import { INDICATORS, type Indicator, type Line, type Pane } from "./indicators.ts";
import { LocalTimeScale } from "./time_scale.ts";
import { Theme } from "./theme.ts";
import type { View } from "./view.ts";

/** Heights of panes, as parts of that of the prices. */
const STRETCH: Readonly<Record<Pane, number>> = { price: 1, volume: 0.22, rsi: 0.24, macd: 0.26, stochastic: 0.24 };
const PANES: readonly Pane[] = ["volume", "rsi", "macd", "stochastic"];
/** Bars on whose prices the decimals depend. */
const LOOKED_AT = 2000;
/** Between candles of one moment (s): the axis needs each to have a time of its own. */
const APART = 1e-6;

interface Drawn {
  readonly line: Line;
  readonly series: ISeriesApi<SeriesType, Time>;
  /** Behind which a later value is drawn. */
  last: number;
}

export class Plot {
  private readonly chart: IChartApiBase<Time>;
  private readonly candles: ISeriesApi<"Candlestick", Time>;
  private volume: ISeriesApi<"Histogram", Time> | undefined;
  private other: ISeriesApi<"Line", Time> | undefined;
  private drawn: Drawn[] = [];
  private marked: IPriceLine[] = [];
  private window: Window | undefined;
  private times: number[] = [];
  private precise = false;
  private theme: Theme;
  decimals = 2;

  /** Calls `pointed` with the place under the pointer, undefined where there is none. */
  constructor(
    private readonly container: HTMLElement,
    private readonly store: BarStore,
    private readonly compared: BarStore,
    pointed: (place: number | undefined) => void,
  ) {
    this.theme = new Theme(container);
    this.chart = createChartEx<Time, LocalTimeScale>(container, new LocalTimeScale(), {
      autoSize: true,
      layout: { attributionLogo: false, fontFamily: getComputedStyle(container).fontFamily },
      crosshair: { mode: CrosshairMode.Normal },
      localization: {
        percentageFormatter: (value: number) => percent(value / 100),
        timeFormatter: (time: Time) => (this.precise ? clockMilliseconds : moment)((time as number) * 1000),
      },
      rightPriceScale: { borderVisible: false },
      // The view is ours, see gestures.ts.
      handleScroll: false,
      handleScale: { axisPressedMouseMove: { time: false, price: true }, mouseWheel: false, pinch: false },
      timeScale: { borderVisible: false, timeVisible: true, secondsVisible: true, minBarSpacing: 0.1, shiftVisibleRangeOnNewBar: false },
    });
    this.candles = this.chart.addSeries(CandlestickSeries, { borderVisible: false });
    this.candles.priceScale().applyOptions({ scaleMargins: { top: 0.13, bottom: 0.06 } });
    this.chart.subscribeCrosshairMove((event) => {
      const at = event.point && event.logical !== undefined ? Math.round(event.logical) : undefined;
      pointed(at === undefined ? undefined : this.placeOf(at));
    });
    new ResizeObserver(() => this.resize()).observe(container);
    this.paint();
  }

  /** Width of what is drawn on (px). */
  get width(): number {
    return Math.max(1, this.chart.timeScale().width());
  }

  /** Bars that a candle is made of now. */
  get factor(): number {
    return this.window?.factor ?? 1;
  }

  /** Candles that are held ready now. */
  get held(): number {
    return this.window?.count ?? 0;
  }

  /** Which indicators are drawn, and whether times are told to the millisecond. */
  use(names: readonly string[], precise: boolean): void {
    this.precise = precise;
    for (const { series } of this.drawn) this.chart.removeSeries(series);
    if (this.volume) this.chart.removeSeries(this.volume);
    this.volume = undefined;
    this.drawn = [];
    const wanted = INDICATORS.filter(({ name }) => names.includes(name));
    for (const indicator of wanted.filter(({ pane }) => pane === "price")) this.add(indicator, 0);
    const panes = PANES.filter((pane) => wanted.some((one) => one.pane === pane));
    panes.forEach((pane, index) => {
      if (pane === "volume") this.addVolume(index + 1);
      for (const indicator of wanted.filter((one) => one.pane === pane)) this.add(indicator, index + 1);
    });
    ["price" as const, ...panes].forEach((pane, index) => this.chart.panes()[index]?.setStretchFactor(STRETCH[pane]));
    this.scale();
    this.fill();
  }

  /** Draws a line of the compared bars beside the candles, both as change since the left edge. */
  compare(wanted: boolean): void {
    if (wanted && !this.other) {
      this.other = this.chart.addSeries(LineSeries, { lineWidth: 2, priceLineVisible: false, color: this.theme.colour("--compared") });
    } else if (!wanted && this.other) {
      this.chart.removeSeries(this.other);
      this.other = undefined;
    }
    this.scale();
    this.fillCompared();
  }

  /** Draws a line at each price that an alert waits for. */
  mark(levels: readonly Level[]): void {
    for (const line of this.marked) this.candles.removePriceLine(line);
    this.marked = levels.map(({ price, above }) =>
      this.candles.createPriceLine({ price, title: above ? "↑" : "↓", color: this.theme.colour("--accent"), lineWidth: 1, lineStyle: LineStyle.Dashed, axisLabelVisible: true }),
    );
    this.container.dataset["marked"] = levels.map(({ price }) => price).join();
  }

  /** What is compared is compared in percent; the other panes keep what they have. */
  private scale(): void {
    const mode = this.other ? PriceScaleMode.Percentage : PriceScaleMode.Normal;
    this.candles.priceScale().applyOptions({ mode, autoScale: true });
    for (const series of [this.volume, ...this.drawn.map(({ series }) => series)]) {
      if (series && series.getPane().paneIndex() > 0) series.priceScale().applyOptions({ mode: PriceScaleMode.Normal });
    }
  }

  /** Shows these places of the bars. */
  show(view: View): void {
    const next = windowFor(this.store, view.from, view.to, this.width, this.window);
    if (next !== this.window) {
      this.window = next;
      this.fill();
    }
    const { factor, first } = next;
    if (next.count === 0) return;
    // Candle n of the window is in the middle of its places.
    const logical = (place: number): number => place / factor - first - 0.5;
    this.chart.timeScale().setVisibleLogicalRange({ from: logical(view.from), to: logical(view.to) });
  }

  /** All bars are others than before. */
  reset(view: View): void {
    this.window = undefined;
    this.fitDecimals(Math.max(0, this.store.length - LOOKED_AT));
    this.candles.priceScale().applyOptions({ autoScale: true });
    this.show(view);
  }

  /** The same places have other bars, or there are older ones. */
  refill(view: View): void {
    this.window = undefined;
    this.show(view);
  }

  /** The last bar changed or is new. */
  changeLast(view: View): void {
    const { window, store } = this;
    const number = Math.floor((store.end - 1) / this.factor);
    if (!window || window.count === 0) return this.reset(view);
    if (number < window.first + window.count - 1 || number > window.first + window.count) return this.show(view);
    this.fitDecimals(store.length - 1);
    const bar = candle(store, window.factor, number);
    if (!bar) return;
    const index = number - window.first;
    if (index === window.count) {
      this.window = { ...window, count: window.count + 1 };
      this.times.push(Math.max(bar.time / 1000, (this.times.at(-1) ?? -Infinity) + APART));
    }
    const time = this.times[index] as UTCTimestamp;
    this.candles.update({ time, open: bar.open, high: bar.high, low: bar.low, close: bar.close });
    this.volume?.update({ time, value: bar.volume, color: this.volumeColour(bar) });
    for (const drawn of this.drawn) {
      const value = this.lastValue(drawn.line.column, number);
      if (Number.isNaN(value) || index < drawn.last) continue;
      drawn.last = index;
      drawn.series.update({ time, value });
    }
    this.show(view);
  }

  /** Values of indicators changed, or those of the other symbol. */
  refillLines(): void {
    this.fillLines();
    this.fillCompared();
  }

  /** Takes the colours of the present theme. */
  paint(): void {
    this.theme = new Theme(this.container);
    const { theme } = this;
    const crosshair = { color: theme.colour("--muted"), labelBackgroundColor: theme.colour("--label") };
    this.chart.applyOptions({
      layout: {
        background: { color: theme.colour("--surface") },
        textColor: theme.colour("--muted"),
        panes: { separatorColor: theme.colour("--line"), separatorHoverColor: theme.colour("--hover") },
      },
      grid: { vertLines: { color: theme.colour("--grid") }, horzLines: { color: theme.colour("--grid") } },
      crosshair: { vertLine: crosshair, horzLine: crosshair },
    });
    const [up, down] = [theme.colour("--up"), theme.colour("--down")];
    this.candles.applyOptions({ upColor: up, wickUpColor: up, downColor: down, wickDownColor: down });
    for (const { line, series } of this.drawn) series.applyOptions({ color: theme.colour(line.colour) });
    this.other?.applyOptions({ color: theme.colour("--compared") });
    for (const line of this.marked) line.applyOptions({ color: theme.colour("--accent") });
    this.fill();
  }

  private add(indicator: Indicator, pane: number): void {
    for (const line of indicator.lines) {
      const options = { priceLineVisible: false, lastValueVisible: false, color: this.theme.colour(line.colour) };
      const series =
        line.kind === "histogram"
          ? this.chart.addSeries(HistogramSeries, options, pane)
          : this.chart.addSeries(
              LineSeries,
              { ...options, lineWidth: pane === 0 ? 1 : 2, crosshairMarkerVisible: false, lineStyle: line.kind === "dashed" ? LineStyle.Dashed : LineStyle.Solid },
              pane,
            );
      if (indicator.pane === "volume") series.applyOptions({ priceFormat: { type: "custom", minMove: 1e-8, formatter: compact } });
      if (indicator.pane === "rsi" || indicator.pane === "stochastic") series.applyOptions({ priceFormat: { type: "custom", minMove: 0.01, formatter: (value: number) => decimal(value, 1) } });
      this.drawn.push({ line, series, last: -1 });
    }
    const [first] = this.drawn.slice(-indicator.lines.length);
    for (const level of indicator.levels ?? []) {
      first?.series.createPriceLine({ price: level, color: this.theme.colour("--muted"), lineWidth: 1, lineStyle: LineStyle.Dotted, axisLabelVisible: false });
    }
    if (pane > 0) first?.series.priceScale().applyOptions({ scaleMargins: { top: 0.12, bottom: 0.08 } });
  }

  private addVolume(pane: number): void {
    this.volume = this.chart.addSeries(
      HistogramSeries,
      { priceLineVisible: false, lastValueVisible: false, priceFormat: { type: "custom", minMove: 1e-8, formatter: compact } },
      pane,
    );
    this.volume.priceScale().applyOptions({ scaleMargins: { top: 0.12, bottom: 0 } });
  }

  private fill(): void {
    const { window } = this;
    const made = window ? candles(this.store, window) : [];
    this.times = [];
    for (const bar of made) this.times.push(Math.max(bar.time / 1000, (this.times.at(-1) ?? -Infinity) + APART));
    this.candles.setData(made.map((bar, at) => ({ time: this.times[at] as UTCTimestamp, open: bar.open, high: bar.high, low: bar.low, close: bar.close })));
    this.volume?.setData(made.map((bar, at) => ({ time: this.times[at] as UTCTimestamp, value: bar.volume, color: this.volumeColour(bar) })));
    this.fillLines();
    this.fillCompared();
  }

  private fillLines(): void {
    for (const drawn of this.drawn) {
      const column = this.store.indicator(drawn.line.column);
      const values = column && this.window ? lastOfEach(this.store, column, this.window) : new Float64Array();
      drawn.last = this.put(drawn.series, values);
    }
  }

  private fillCompared(): void {
    if (!this.other) return;
    const times = Float64Array.from(this.times, (time) => time * 1000);
    this.put(this.other, asOf(times, this.compared.column("time"), this.compared.column("close")));
  }

  /** Puts the values that are known; the index of the last of them. */
  private put(series: ISeriesApi<SeriesType, Time>, values: Float64Array): number {
    const points: { time: UTCTimestamp; value: number }[] = [];
    let last = -1;
    values.forEach((value, at) => {
      if (Number.isNaN(value) || at >= this.times.length) return;
      points.push({ time: this.times[at] as UTCTimestamp, value });
      last = at;
    });
    series.setData(points);
    return last;
  }

  private lastValue(column: string, number: number): number {
    const values = this.store.indicator(column);
    if (!values) return NaN;
    return lastOfEach(this.store, values, { factor: this.factor, first: number, count: 1 })[0]!;
  }

  private placeOf(index: number): number | undefined {
    const { window } = this;
    if (!window || index < 0 || index >= window.count) return undefined;
    return (window.first + index) * window.factor;
  }

  /** The candle that a place is in, for words about it. */
  candleAt(place: number): Bar | undefined {
    return candle(this.store, this.factor, Math.floor(place / this.factor));
  }

  private fitDecimals(from: number): void {
    const decimals = Math.max(
      from === this.store.length - 1 ? this.decimals : 0,
      ...(["open", "high", "low", "close"] as const).map((field) => decimalsOfAll(this.store.column(field), Math.max(0, from))),
    );
    if (decimals === this.decimals) return;
    this.decimals = decimals;
    this.candles.applyOptions({
      priceFormat: { type: "custom", minMove: 10 ** -decimals, formatter: (value: number) => price(value, decimals) },
    });
  }

  private volumeColour(bar: Bar): string {
    return this.theme.faded(bar.close < bar.open ? "--down" : "--up");
  }

  private resize(): void {
    this.chart.applyOptions({ layout: { fontSize: Math.round(0.75 * Number.parseFloat(getComputedStyle(document.documentElement).fontSize)) } });
  }
}
