// Levels of an order book as the live feed says them, [price, size], with the size up to each. Pure.

export interface Level {
  readonly price: number;
  readonly size: number;
  readonly total: number;
}

/** The best so many; what is not understood is left out. */
export function readLevels(said: unknown, most: number): Level[] {
  if (!Array.isArray(said)) return [];
  const levels: Level[] = [];
  let total = 0;
  for (const pair of said.slice(0, most) as unknown[]) {
    if (!Array.isArray(pair)) continue;
    const [price, size] = [Number(pair[0]), Number(pair[1])];
    if (!Number.isFinite(price) || !Number.isFinite(size)) continue;
    total += size;
    levels.push({ price, size, total });
  }
  return levels;
}
