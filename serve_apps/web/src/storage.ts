// What a page remembers in localStorage, or for its tab alone. A browser that forbids storage only loses the memory.

type Memory = "localStorage" | "sessionStorage";

export function read(key: string, memory: Memory = "localStorage"): string | null {
  try {
    return window[memory].getItem(key);
  } catch {
    return null;
  }
}

export function write(key: string, value: string, memory: Memory = "localStorage"): void {
  try {
    window[memory].setItem(key, value);
  } catch {
    // forbidden or full
  }
}

/** The object that is kept, with what it lacks, or has of another type, taken from `defaults`. */
export function readSettings<Settings extends object>(key: string, defaults: Settings): Settings {
  let kept: unknown;
  try {
    kept = JSON.parse(read(key) ?? "null");
  } catch {
    return { ...defaults };
  }
  if (typeof kept !== "object" || kept === null) return { ...defaults };
  const known = Object.entries(kept).filter(
    ([name, value]) => name in defaults && typeof value === typeof defaults[name as keyof Settings],
  );
  return { ...defaults, ...Object.fromEntries(known) };
}

export function writeSettings(key: string, settings: object): void {
  write(key, JSON.stringify(settings));
}
