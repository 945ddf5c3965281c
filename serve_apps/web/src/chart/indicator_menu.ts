// The menu of indicators: a box to tick for each, and one for all.
import { make } from "../elements.ts";
import { text } from "../language.ts";
import { INDICATORS } from "./indicators.ts";

export class IndicatorMenu {
  private readonly boxes: HTMLInputElement[] = [];
  private readonly labels: HTMLElement[] = [];
  private readonly count: HTMLElement;

  constructor(
    menu: HTMLElement,
    chosen: readonly string[],
    private readonly changed: (names: string[]) => void,
  ) {
    this.count = menu.querySelector<HTMLElement>(".count")!;
    const list = menu.querySelector<HTMLElement>("fieldset")!;
    for (const { name, lines } of INDICATORS) {
      const box = make("input", { attributes: { type: "checkbox", value: name } });
      box.checked = chosen.includes(name);
      box.addEventListener("change", () => this.tell());
      const label = make("span");
      const sample = make("i", { class: "sample", attributes: { "aria-hidden": "true" } });
      sample.style.setProperty("--sample", `var(${lines.at(-1)!.colour})`);
      list.append(make("label", {}, box, sample, label));
      this.boxes.push(box);
      this.labels.push(label);
    }
    menu.querySelector(".all")!.addEventListener("click", () => this.setAll(true));
    menu.querySelector(".none")!.addEventListener("click", () => this.setAll(false));
    // A menu is left by Escape, and by going elsewhere.
    menu.addEventListener("keydown", (event) => {
      if (event.key !== "Escape") return;
      menu.removeAttribute("open");
      menu.querySelector("summary")!.focus();
    });
    document.addEventListener("pointerdown", (event) => menu.contains(event.target as Node) || menu.removeAttribute("open"));
    this.draw();
  }

  draw(): void {
    INDICATORS.forEach(({ label }, at) => (this.labels[at]!.textContent = text(label)));
    this.count.textContent = String(this.boxes.filter((box) => box.checked).length);
  }

  /** Single trades have no indicators. */
  limit(none: boolean): void {
    for (const box of this.boxes) box.disabled = none && box.value !== "volume";
  }

  private setAll(checked: boolean): void {
    for (const box of this.boxes) box.checked = checked;
    this.tell();
  }

  private tell(): void {
    this.draw();
    this.changed(this.boxes.filter((box) => box.checked).map((box) => box.value));
  }
}
