// Finding, making and writing elements; writing what is there already changes nothing, so nothing is announced twice.

export function element<T extends HTMLElement = HTMLElement>(id: string): T {
  const found = document.getElementById(id);
  if (!found) throw new Error(`the page has no #${id}`);
  return found as T;
}

export function write(target: Element | string, text: string): void {
  const found = typeof target === "string" ? element(target) : target;
  if (found.textContent !== text) found.textContent = text;
}

interface Made {
  class?: string;
  text?: string;
  /** The text is data: nothing to translate. */
  data?: boolean;
  attributes?: Readonly<Record<string, string>>;
}

export function make<Name extends keyof HTMLElementTagNameMap>(
  name: Name,
  made: Made = {},
  ...children: (Node | string)[]
): HTMLElementTagNameMap[Name] {
  const element = document.createElement(name);
  if (made.class) element.className = made.class;
  if (made.text !== undefined) element.textContent = made.text;
  if (made.data) element.translate = false;
  for (const [attribute, value] of Object.entries(made.attributes ?? {})) element.setAttribute(attribute, value);
  element.append(...children);
  return element;
}

/** Puts these children in place, and leaves those alone that are where they belong: moving one would end what the
 * reader has marked or pointed at. */
export function arrange(parent: Element, children: readonly Element[]): void {
  const shown = parent.children;
  if (shown.length !== children.length || children.some((child, at) => shown[at] !== child)) parent.replaceChildren(...children);
}

const SVG = "http://www.w3.org/2000/svg";

export function shape(name: string, attributes: Readonly<Record<string, string>>): SVGElement {
  const made = document.createElementNS(SVG, name);
  for (const [attribute, value] of Object.entries(attributes)) made.setAttribute(attribute, value);
  return made;
}
