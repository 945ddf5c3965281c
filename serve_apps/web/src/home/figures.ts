// How a figure says where it comes from and how old it is, or that nobody knows it.
import { write } from "../elements.ts";
import { recently } from "../format.ts";
import { text } from "../language.ts";
import type { Figure } from "./summary.ts";

/** Undefined: no answer has come yet. */
export function showAge(target: HTMLElement, figure: Figure | undefined): void {
  target.classList.toggle("stale", figure?.stale === true);
  write(target, age(figure));
  target.title = figure?.asOf ? recently(figure.asOf) : "";
}

function age(figure: Figure | undefined): string {
  if (!figure) return text("field.waiting");
  if (figure.value === undefined) return figure.source ? sourceName(figure.source) : text("field.no_source");
  if (figure.stale) return figure.asOf ? text("field.stale", { when: recently(figure.asOf) }) : text("field.unknown");
  return sourceName(figure.source);
}

/** Names of providers are names; our own feed is called so. */
function sourceName(source: string): string {
  return source === "" ? "" : /^(own|rayfeed|live|feed|bars|local)/i.test(source) ? text("source.own") : source;
}
