// The newest of many things, a bounded number of them. Pure.

export class Ring<Item> {
  readonly capacity: number;
  private readonly items: (Item | undefined)[];
  private next = 0;
  private count = 0;

  constructor(capacity: number) {
    this.capacity = capacity;
    this.items = new Array<Item | undefined>(capacity);
  }

  get length(): number {
    return this.count;
  }

  push(item: Item): void {
    this.items[this.next] = item;
    this.next = (this.next + 1) % this.capacity;
    this.count = Math.min(this.count + 1, this.capacity);
  }

  clear(): void {
    this.items.fill(undefined);
    this.next = this.count = 0;
  }

  /** The newest first. */
  newest(most = this.count): Item[] {
    return Array.from({ length: Math.min(most, this.count) }, (_, at) => this.items[(this.next - 1 - at + 2 * this.capacity) % this.capacity]!);
  }
}
