// Colours of the style sheet as the canvas takes them.

export class Theme {
  private readonly probe: HTMLElement;
  private readonly known = new Map<string, string>();

  constructor(container: HTMLElement) {
    this.probe = document.createElement("span");
    this.probe.hidden = true;
    container.append(this.probe);
    // Read before it goes: a probe that is not in the page has no colours.
    for (const name of NAMES) this.known.set(name, this.read(name));
    this.probe.remove();
  }

  /** As `rgb(...)`. */
  colour(name: string): string {
    return this.known.get(name) ?? "rgb(128, 128, 128)";
  }

  faded(name: string): string {
    return this.colour(name).replace(/^rgb\((.*)\)$/, "rgba($1, 0.45)");
  }

  private read(name: string): string {
    this.probe.style.color = `var(${name})`;
    return getComputedStyle(this.probe).color;
  }
}

const NAMES = [
  ...["--surface", "--line", "--grid", "--hover", "--muted", "--label", "--up", "--down", "--compared", "--accent"],
  ...Array.from({ length: 9 }, (_, at) => `--series-${at + 1}`),
];
