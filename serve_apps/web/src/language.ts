// The reader's language: what they chose (kept for pages made here and on the server alike), else the browser's.
// Texts are looked up by key; what is written in the page's HTML names its key in `data-text` and the like.
import { en } from "./texts/en.ts";
import { vi } from "./texts/vi.ts";
import { read, write } from "./storage.ts";

export type Language = "en" | "vi";
export type Key = keyof typeof en;

const KEPT = "preferred_language";
const YEAR = 31_536_000;
const TABLES: Readonly<Record<Language, Readonly<Record<Key, string>>>> = { en, vi };
/** Attributes of an element, by the attribute that names their text. */
const ATTRIBUTES = { "data-label": "aria-label", "data-title": "title", "data-placeholder": "placeholder" } as const;

let current: Language = "en";
const changed: (() => void)[] = [];

export function language(): Language {
  return current;
}

/** The text of a key in the reader's language, `{name}` replaced by what `values` says. */
export function text(key: Key, values: Readonly<Record<string, string | number>> = {}): string {
  return TABLES[current][key].replace(/\{(\w+)\}/g, (whole, name: string) => String(values[name] ?? whole));
}

/** Whether there is a text of that key: for keys that are made of what a server says. */
export function isKey(key: string): key is Key {
  return key in en;
}

/** Calls `listener` whenever the language changes. */
export function onLanguage(listener: () => void): void {
  changed.push(listener);
}

/** Writes the texts of everything below `root` that names them. */
export function writeTexts(root: ParentNode): void {
  for (const element of root.querySelectorAll<HTMLElement>("[data-text]")) {
    element.textContent = text(element.dataset["text"] as Key);
  }
  for (const [from, to] of Object.entries(ATTRIBUTES)) {
    for (const element of root.querySelectorAll(`[${from}]`)) {
      element.setAttribute(to, text(element.getAttribute(from) as Key));
    }
  }
}

/** Takes the language the reader wants, before the page is painted. */
export function startLanguage(): void {
  const asked = new URLSearchParams(location.search).get("lang");
  const cookie = document.cookie.match(/(?:^|; )preferred_language=(\w+)/)?.[1];
  const wanted = [asked, read(KEPT), cookie, ...navigator.languages.map((tag) => tag.slice(0, 2))];
  use(wanted.find(isLanguage) ?? "vi");
}

export function chooseLanguage(wanted: Language): void {
  write(KEPT, wanted);
  document.cookie = `${KEPT}=${wanted}; Path=/; Max-Age=${YEAR}; SameSite=Lax`;
  use(wanted);
  for (const listener of changed) listener();
}

function use(wanted: Language): void {
  current = wanted;
  document.documentElement.lang = wanted;
  writeTexts(document);
}

function isLanguage(tag: string | null | undefined): tag is Language {
  return tag === "en" || tag === "vi";
}
