// Answers of the data API and of charts: a line of JSON that names the columns, then each column as it is in memory.
// Pure.

const NEWLINE = 10;
/** What columns hold that are not f64, by name. */
const WHOLE = new Set(["time", "nanos", "side"]);

export interface Columns {
  readonly head: Readonly<Record<string, unknown>>;
  readonly columns: ReadonlyMap<string, Float64Array | Uint32Array>;
}

interface Entry {
  readonly name: string;
  readonly record_size: number;
  readonly data_length: number;
}

/** Throws `SyntaxError` for what is no such answer. */
export function readColumns(body: ArrayBuffer): Columns {
  const end = new Uint8Array(body).indexOf(NEWLINE);
  if (end < 0) throw new SyntaxError("no line that names the columns");
  const head = JSON.parse(new TextDecoder().decode(new Uint8Array(body, 0, end))) as Record<string, unknown>;
  const columns = new Map<string, Float64Array | Uint32Array>();
  let begin = end + 1;
  for (const entry of (head["columns"] ?? []) as readonly Entry[]) {
    const bytes = body.slice(begin, begin + entry.data_length);
    if (bytes.byteLength !== entry.data_length) throw new SyntaxError(`${entry.name} is cut off`);
    if (entry.name === "id") columns.set(entry.name, idsOf(bytes));
    else if (entry.record_size === 8) columns.set(entry.name, new Float64Array(bytes));
    else if (WHOLE.has(entry.name)) columns.set(entry.name, new Uint32Array(bytes));
    begin += entry.data_length;
  }
  return { head, columns };
}

/** As those of the live feed are once parsed: beyond 2^53 the nearest that a number can be. */
function idsOf(bytes: ArrayBuffer): Float64Array {
  const halves = new Uint32Array(bytes);
  const ids = new Float64Array(halves.length / 2);
  for (let at = 0; at < ids.length; at++) ids[at] = halves[2 * at + 1]! * 2 ** 32 + halves[2 * at]!;
  return ids;
}
