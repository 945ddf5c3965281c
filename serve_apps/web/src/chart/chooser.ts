// The searchable symbol chooser: a combobox as the ARIA Authoring Practices describe it, options grouped by exchange.
import { text } from "../language.ts";
import type { Instrument } from "../instruments.ts";
import { found } from "./symbol_search.ts";

// More options than anyone reads; the rest is found by typing on.
const MOST_OPTIONS = 200;
const PAGE = 8;

export class SymbolChooser {
  private readonly input: HTMLInputElement;
  private readonly list: HTMLElement;
  private symbols: ReadonlyMap<string, readonly string[]> = new Map();
  private options: HTMLElement[] = [];
  private instruments: Instrument[] = [];
  private active = -1;
  private current: Instrument | undefined;

  /** Calls `chosen` when the reader picked an instrument and `opened` when the list is about to be read; `shortcut` is
   * the key that leads here from anywhere on the page. */
  constructor(
    root: HTMLElement,
    private readonly chosen: (instrument: Instrument) => void,
    private readonly opened: () => void,
    shortcut = "",
  ) {
    this.input = root.querySelector("input")!;
    this.list = root.querySelector<HTMLElement>("[role=listbox]")!;
    this.input.addEventListener("focus", () => this.input.select());
    this.input.addEventListener("click", () => this.open());
    this.input.addEventListener("input", () => this.open(this.input.value));
    this.input.addEventListener("blur", () => this.close());
    this.input.addEventListener("keydown", (event) => this.keyPressed(event));
    // Before the blur that a click on an option would cause.
    this.list.addEventListener("pointerdown", (event) => event.preventDefault());
    this.list.addEventListener("click", (event) => {
      const option = (event.target as Element).closest<HTMLElement>("[role=option]");
      if (option) this.choose(this.options.indexOf(option));
    });
    document.addEventListener("keydown", (event) => {
      const typing = event.target instanceof HTMLInputElement;
      if (!shortcut || event.key !== shortcut || typing || event.ctrlKey || event.metaKey || event.altKey) return;
      event.preventDefault();
      this.input.focus();
      this.open();
    });
  }

  /** Takes a new list of symbols; an open list keeps its search, and what Enter would choose. */
  offer(symbols: ReadonlyMap<string, readonly string[]>): void {
    this.symbols = symbols;
    if (!this.isOpen) return;
    const before = this.instruments[this.active];
    this.render(this.input.value === this.current?.symbol ? "" : this.input.value);
    const again = this.instruments.findIndex((one) => one.symbol === before?.symbol && one.exchange === before.exchange);
    if (again >= 0) this.activate(again);
  }

  show(instrument: Instrument | undefined): void {
    this.current = instrument;
    if (!this.isOpen) this.input.value = instrument?.symbol ?? "";
  }

  private get isOpen(): boolean {
    return !this.list.hidden;
  }

  private open(query = ""): void {
    if (!this.isOpen) this.opened();
    this.list.hidden = false;
    this.input.setAttribute("aria-expanded", "true");
    this.render(query);
  }

  private close(): void {
    this.list.hidden = true;
    this.input.setAttribute("aria-expanded", "false");
    this.input.removeAttribute("aria-activedescendant");
    this.input.value = this.current?.symbol ?? "";
  }

  private choose(index: number): void {
    const instrument = this.instruments[index];
    if (!instrument) return;
    this.current = instrument;
    this.close();
    this.input.select();
    this.chosen(instrument);
  }

  private render(query: string): void {
    const matches = found(this.symbols, query);
    const shown = matches.slice(0, MOST_OPTIONS);
    this.instruments = shown;
    this.options = [];
    const children: HTMLElement[] = [];
    let group: HTMLElement | undefined;
    shown.forEach((instrument, index) => {
      if (instrument.exchange !== shown[index - 1]?.exchange) {
        group = groupOf(`${this.list.id}-group-${children.length}`, instrument.exchange);
        children.push(group);
      }
      const option = optionOf(`${this.list.id}-option-${index}`, instrument);
      this.options.push(option);
      group?.append(option);
    });
    if (shown.length < matches.length) children.push(note(text("chooser.more", { n: matches.length - shown.length })));
    if (matches.length === 0) children.push(note(this.symbols.size ? text("chooser.nothing", { query }) : text("chooser.none")));
    this.list.replaceChildren(...children);
    const current = shown.findIndex((one) => one.symbol === this.current?.symbol && one.exchange === this.current.exchange);
    this.options[current]?.setAttribute("data-current", "");
    this.activate(query ? 0 : current);
  }

  private activate(index: number): void {
    this.options[this.active]?.setAttribute("aria-selected", "false");
    this.active = index;
    const option = this.options[index];
    if (!option) return this.input.removeAttribute("aria-activedescendant");
    option.setAttribute("aria-selected", "true");
    option.scrollIntoView({ block: "nearest" });
    this.input.setAttribute("aria-activedescendant", option.id);
  }

  private keyPressed(event: KeyboardEvent): void {
    if (event.key === "Escape" || event.key === "Tab") {
      this.close();
      return;
    }
    const moves: Record<string, number> = { ArrowDown: 1, ArrowUp: -1, PageDown: PAGE, PageUp: -PAGE };
    const move = moves[event.key];
    if (move === undefined && event.key !== "Enter") return;
    event.preventDefault();
    if (!this.isOpen) this.open();
    else if (move === undefined) this.choose(this.active);
    else if (Math.abs(move) === 1) this.activate((this.active + move + this.options.length) % this.options.length);
    else this.activate(Math.min(this.options.length - 1, Math.max(0, this.active + move)));
  }
}

function groupOf(id: string, exchange: string): HTMLElement {
  const group = document.createElement("div");
  const heading = document.createElement("div");
  heading.id = id;
  heading.translate = false;
  heading.className = "group";
  heading.setAttribute("role", "presentation");
  heading.textContent = exchange;
  group.setAttribute("role", "group");
  group.setAttribute("aria-labelledby", heading.id);
  group.append(heading);
  return group;
}

function optionOf(id: string, { exchange, symbol }: Instrument): HTMLElement {
  const option = document.createElement("div");
  option.id = id;
  option.translate = false;
  option.setAttribute("role", "option");
  option.setAttribute("aria-selected", "false");
  option.dataset["exchange"] = exchange;
  option.textContent = symbol;
  return option;
}

function note(text: string): HTMLElement {
  const element = document.createElement("p");
  element.className = "note";
  element.textContent = text;
  return element;
}
