// Bars in columns, as many as memory has room for: a million are 48 MB, or 24 where all prices of a bar are one column.
// Bars have a place that stays theirs when older ones come before them. Pure.

export const PRICES = ["open", "high", "low", "close"] as const;
export const FIELDS = ["time", ...PRICES, "volume"] as const;
export type Field = (typeof FIELDS)[number];

/** One bar; `time` in ms since the epoch. */
export type Bar = Readonly<Record<Field, number>>;

/** Columns of one length, ascending by time; fields may share a column. `indicators` may be missing: not known. */
export interface Block {
  readonly fields: Readonly<Record<Field, Float64Array>>;
  readonly indicators: ReadonlyMap<string, Float64Array>;
}

export const NOTHING: Block = {
  fields: { time: new Float64Array(), open: new Float64Array(), high: new Float64Array(), low: new Float64Array(), close: new Float64Array(), volume: new Float64Array() },
  indicators: new Map(),
};

const FIRST_ROOM = 1024;

export class BarStore {
  private columns = new Map<Field, Float64Array>();
  private own = new Map<string, Float64Array>();
  private count = 0;
  /** The place of the first bar. */
  private first = 0;

  get length(): number {
    return this.count;
  }

  /** Places are `begin` to before `end`. */
  get begin(): number {
    return this.first;
  }

  get end(): number {
    return this.first + this.count;
  }

  /** A view that is good until bars are added. */
  column(field: Field): Float64Array {
    return this.columns.get(field)?.subarray(0, this.count) ?? new Float64Array();
  }

  indicator(name: string): Float64Array | undefined {
    return this.own.get(name)?.subarray(0, this.count);
  }

  get indicators(): readonly string[] {
    return [...this.own.keys()];
  }

  at(place: number): Bar | undefined {
    const index = place - this.first;
    if (index < 0 || index >= this.count) return undefined;
    return Object.fromEntries(FIELDS.map((field) => [field, this.columns.get(field)![index]!])) as Bar;
  }

  get last(): Bar | undefined {
    return this.at(this.end - 1);
  }

  /** The first place whose bar begins at `time` or later. */
  place(time: number): number {
    const times = this.column("time");
    let low = 0;
    let high = times.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (times[middle]! < time) low = middle + 1;
      else high = middle;
    }
    return this.first + low;
  }

  /** These bars instead of all others. Takes the columns over. */
  replace(block: Block): void {
    this.columns = new Map(FIELDS.map((field) => [field, block.fields[field]]));
    this.own = new Map(block.indicators);
    this.count = block.fields.time.length;
    this.first = 0;
  }

  /** Bars that are all older than what there is. */
  prepend(block: Block): void {
    const more = block.fields.time.length;
    if (more === 0) return;
    const join = (older: Float64Array | undefined, newer: Float64Array | undefined): Float64Array => {
      const joined = new Float64Array(more + this.count);
      if (older) joined.set(older);
      else joined.fill(NaN, 0, more);
      if (newer) joined.set(newer.subarray(0, this.count), more);
      else joined.fill(NaN, more);
      return joined;
    };
    this.columns = this.shared((field) => join(block.fields[field], this.columns.get(field)), block);
    const names = new Set([...this.own.keys(), ...block.indicators.keys()]);
    this.own = new Map([...names].map((name) => [name, join(block.indicators.get(name), this.own.get(name))]));
    this.count += more;
    this.first -= more;
  }

  /** Without so many of the oldest; what there is keeps its place. */
  forget(oldest: number): void {
    this.columns = this.shared((field) => this.columns.get(field)!.slice(oldest, this.count));
    this.own = new Map([...this.own].map(([name, column]) => [name, column.slice(oldest, this.count)]));
    this.first += oldest;
    this.count -= oldest;
  }

  /** Newer bars at the end, and others instead of those of the same time. */
  merge(block: Block): void {
    const { time } = block.fields;
    if (time.length === 0) return;
    const from = this.place(time[0]!) - this.first;
    const older = this.slice(0, from);
    const tail = this.slice(from, this.count);
    const merged = union(tail, block);
    const begin = this.first;
    this.replace(older.fields.time.length ? concatenated(older, merged) : merged);
    this.first = begin;
  }

  /** One bar at the end, or instead of the one of the same time; false for one that belongs between others. */
  put(bar: Bar): boolean {
    const at = this.place(bar.time) - this.first;
    const known = at < this.count && this.columns.get("time")![at] === bar.time;
    if (!known && at < this.count) return false;
    if (!known) this.grow();
    for (const [field, column] of this.columns) column[at] = bar[field];
    if (!known) for (const column of this.own.values()) column[at] = NaN;
    return true;
  }

  /** Values of indicators for the bar of that time, where there is one. */
  putIndicators(time: number, values: Readonly<Record<string, number | null>>): boolean {
    const at = this.place(time) - this.first;
    if (at >= this.count || this.columns.get("time")![at] !== time) return false;
    for (const [name, column] of this.own) {
      const value = values[name];
      if (typeof value === "number") column[at] = value;
    }
    return true;
  }

  private grow(): void {
    if (this.count === (this.columns.get("time")?.length ?? 0)) {
      const room = Math.max(FIRST_ROOM, Math.ceil(this.count * 1.5));
      const wider = (column: Float64Array | undefined): Float64Array => {
        const made = new Float64Array(room);
        if (column) made.set(column.subarray(0, this.count));
        return made;
      };
      this.columns = this.shared((field) => wider(this.columns.get(field)));
      this.own = new Map([...this.own].map(([name, column]) => [name, wider(column)]));
    }
    this.count++;
  }

  /** A column for each field; one for all that share one now (and in `block`). */
  private shared(make: (field: Field) => Float64Array, block?: Block): Map<Field, Float64Array> {
    const made = new Map<Field, Float64Array>();
    for (const field of FIELDS) {
      const same = FIELDS.find(
        (other) => made.has(other) && this.columns.get(other) === this.columns.get(field) && this.columns.has(other) && (!block || block.fields[other] === block.fields[field]),
      );
      made.set(field, same ? made.get(same)! : make(field));
    }
    return made;
  }

  private slice(begin: number, end: number): Block {
    const fields = Object.fromEntries(FIELDS.map((field) => [field, this.column(field).slice(begin, end)]));
    const indicators = new Map([...this.own].map(([name, column]) => [name, column.slice(begin, end)]));
    return { fields: fields as Block["fields"], indicators };
  }
}

/** Rows of both, ascending; where both have a time, that of `newer`, with indicators of `older` it does not know. */
function union(older: Block, newer: Block): Block {
  const [a, b] = [older.fields.time, newer.fields.time];
  const rows: [number, number][] = [];
  for (let i = 0, j = 0; i < a.length || j < b.length; ) {
    const [x, y] = [a[i] ?? Infinity, b[j] ?? Infinity];
    rows.push([x <= y ? i++ : -1, y <= x ? j++ : -1]);
  }
  const fields = Object.fromEntries(
    FIELDS.map((field) => [field, Float64Array.from(rows, ([i, j]) => (j >= 0 ? newer.fields[field][j]! : older.fields[field][i]!))]),
  );
  const names = new Set([...older.indicators.keys(), ...newer.indicators.keys()]);
  const value = (block: Block, name: string, at: number): number => (at < 0 ? NaN : (block.indicators.get(name)?.[at] ?? NaN));
  const indicators = [...names].map((name): [string, Float64Array] => [
    name,
    Float64Array.from(rows, ([i, j]) => {
      const own = value(newer, name, j);
      return Number.isNaN(own) ? value(older, name, i) : own;
    }),
  ]);
  return { fields: fields as Block["fields"], indicators: new Map(indicators) };
}

function concatenated(first: Block, second: Block): Block {
  const length = first.fields.time.length;
  const joined = (a: Float64Array | undefined, b: Float64Array | undefined): Float64Array => {
    const made = new Float64Array(length + second.fields.time.length).fill(NaN);
    if (a) made.set(a);
    if (b) made.set(b, length);
    return made;
  };
  const fields = Object.fromEntries(FIELDS.map((field) => [field, joined(first.fields[field], second.fields[field])]));
  const names = new Set([...first.indicators.keys(), ...second.indicators.keys()]);
  const indicators = [...names].map((name): [string, Float64Array] => [name, joined(first.indicators.get(name), second.indicators.get(name))]);
  return { fields: fields as Block["fields"], indicators: new Map(indicators) };
}
