// Which places of the bars are seen: moved, zoomed and kept at the newest bar. Pure.

export interface View {
  readonly from: number;
  readonly to: number;
}

export interface Extent {
  readonly begin: number;
  readonly end: number;
}

/** Bars, and the part of a screen that is empty behind the newest bar. */
const FEWEST = 8;
const EMPTY = 0.06;
/** This part of a screen has to have bars at least. */
const SEEN = 0.1;

/** The newest bars, so many px wide each. */
export function latest(extent: Extent, width: number, spacing: number): View {
  const bars = Math.max(FEWEST, width / spacing);
  const to = extent.end + bars * EMPTY;
  return { from: to - bars, to };
}

/** As many bars as now, the newest at its place on the right. */
export function atLatest(view: View, extent: Extent): View {
  const bars = view.to - view.from;
  const to = extent.end + bars * EMPTY;
  return { from: to - bars, to };
}

export function all(extent: Extent): View {
  const bars = Math.max(FEWEST, extent.end - extent.begin);
  return { from: extent.begin - bars * 0.01, to: extent.end + bars * EMPTY };
}

export function showsLatest(view: View, extent: Extent): boolean {
  return view.to >= extent.end;
}

export function moved(view: View, bars: number, extent: Extent): View {
  return within({ from: view.from + bars, to: view.to + bars }, extent);
}

/** `factor` above 1 shows more bars; what is at `anchor` stays where it is. */
export function zoomed(view: View, factor: number, anchor: number, extent: Extent): View {
  const bars = view.to - view.from;
  const most = Math.max(FEWEST * 2, (extent.end - extent.begin) * 1.15);
  const wanted = Math.min(most, Math.max(FEWEST, bars * factor));
  const ratio = wanted / bars;
  return within({ from: anchor - (anchor - view.from) * ratio, to: anchor + (view.to - anchor) * ratio }, extent);
}

function within(view: View, extent: Extent): View {
  const bars = view.to - view.from;
  const least = bars * SEEN;
  const shift = Math.max(extent.begin + least - view.to, Math.min(0, extent.end - least - view.from));
  return { from: view.from + shift, to: view.to + shift };
}
