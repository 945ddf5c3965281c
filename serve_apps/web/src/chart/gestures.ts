// Moves the view with pointer, wheel, fingers and keys.
import { all, atLatest, moved, zoomed, type Extent, type View } from "./view.ts";

const WHEEL = 0.0015;
/** Of the bars in view, per key press. */
const KEY_STEP = 0.08;
const KEY_ZOOM = 1.25;

export interface Seen {
  view: View;
  readonly extent: Extent;
  /** Of what is drawn on (px). */
  readonly width: number;
}

/** `seen` says what is in view now; `changed` takes what shall be. */
export function followGestures(container: HTMLElement, seen: () => Seen, changed: (view: View) => void): void {
  const pointers = new Map<number, number>();
  const x = (event: MouseEvent): number => event.clientX - container.getBoundingClientRect().left;
  const perPixel = ({ view, width }: Seen): number => (view.to - view.from) / width;

  container.addEventListener("pointerdown", (event) => {
    // The scale of prices is moved by the chart itself.
    if (event.button !== 0 || x(event) > seen().width) return;
    pointers.set(event.pointerId, x(event));
  });
  container.addEventListener("pointermove", (event) => {
    const before = pointers.get(event.pointerId);
    if (before === undefined) return;
    const now = seen();
    const at = x(event);
    if (pointers.size === 1) {
      if (!container.hasPointerCapture(event.pointerId) && Math.abs(at - before) < 3) return;
      if (!container.hasPointerCapture(event.pointerId)) container.setPointerCapture(event.pointerId);
      changed(moved(now.view, (before - at) * perPixel(now), now.extent));
    } else {
      const other = [...pointers].find(([id]) => id !== event.pointerId)![1];
      const [span, wanted] = [Math.abs(before - other), Math.abs(at - other)];
      if (span > 10 && wanted > 10) changed(zoomed(now.view, span / wanted, now.view.from + other * perPixel(now), now.extent));
    }
    pointers.set(event.pointerId, at);
  });
  for (const end of ["pointerup", "pointercancel", "lostpointercapture"] as const) {
    container.addEventListener(end, (event) => pointers.delete(event.pointerId));
  }
  container.addEventListener(
    "wheel",
    (event) => {
      event.preventDefault();
      const now = seen();
      const unit = event.deltaMode === WheelEvent.DOM_DELTA_LINE ? 24 : 1;
      if (Math.abs(event.deltaX) > Math.abs(event.deltaY)) {
        changed(moved(now.view, event.deltaX * unit * perPixel(now), now.extent));
      } else {
        const anchor = now.view.from + Math.min(x(event), now.width) * perPixel(now);
        changed(zoomed(now.view, Math.exp(event.deltaY * unit * WHEEL), anchor, now.extent));
      }
    },
    { passive: false },
  );
  container.addEventListener("keydown", (event) => {
    const now = seen();
    const { view, extent } = now;
    const bars = view.to - view.from;
    const middle = (view.from + view.to) / 2;
    const zoom = (factor: number): View => zoomed(view, factor, view.to >= extent.end ? extent.end : middle, extent);
    const views: Record<string, () => View> = {
      ArrowLeft: () => moved(view, -bars * KEY_STEP, extent),
      ArrowRight: () => moved(view, bars * KEY_STEP, extent),
      PageUp: () => moved(view, -bars, extent),
      PageDown: () => moved(view, bars, extent),
      "+": () => zoom(1 / KEY_ZOOM),
      "=": () => zoom(1 / KEY_ZOOM),
      "-": () => zoom(KEY_ZOOM),
      Home: () => all(extent),
      End: () => atLatest(view, extent),
    };
    const wanted = views[event.key];
    if (!wanted || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    changed(wanted());
  });
}
