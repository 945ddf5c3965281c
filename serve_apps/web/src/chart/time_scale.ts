// The chart library marks days at midnight UTC; this time scale marks them at midnight where the reader is.
import { defaultHorzScaleBehavior, type IHorzScaleBehavior, type TickMark, type Time } from "lightweight-charts";
import { clock, clockMilliseconds, clockSeconds, day, month, year } from "../format.ts";

type Points = Parameters<IHorzScaleBehavior<Time>["fillWeightsForPoints"]>[0];
type Weight = Points[number]["timeWeight"];

const YEAR = 70;
const MONTH = 60;
const DAY = 50;
const SECOND = 10;
// Minutes of a step and the library's weight for its start.
const STEPS = [[720, 33], [360, 32], [180, 31], [60, 30], [30, 22], [5, 21], [1, 20]] as const;

export class LocalTimeScale extends defaultHorzScaleBehavior() {
  override fillWeightsForPoints(points: Points, startIndex: number): void {
    for (let index = startIndex; index < points.length; index++) {
      const point = points[index]!;
      const seconds = point.originalTime as number;
      const before = points[index - 1]?.originalTime as number | undefined;
      point.timeWeight = weightBetween(localTime(before ?? seconds - 60), localTime(seconds)) as Weight;
    }
  }

  override formatTickmark(mark: TickMark): string {
    const format = mark.weight >= YEAR ? year : mark.weight >= MONTH ? month : mark.weight >= DAY ? day : null;
    const ms = (mark.originalTime as number) * 1000;
    return (format ?? (mark.weight > SECOND ? clock : mark.weight === SECOND ? clockSeconds : clockMilliseconds))(ms);
  }
}

/** A date whose UTC fields are the reader's local ones. */
function localTime(seconds: number): Date {
  const date = new Date(seconds * 1000);
  return new Date(date.getTime() - date.getTimezoneOffset() * 60_000);
}

function weightBetween(before: Date, at: Date): number {
  if (before.getUTCFullYear() !== at.getUTCFullYear()) return YEAR;
  if (before.getUTCMonth() !== at.getUTCMonth()) return MONTH;
  if (before.getUTCDate() !== at.getUTCDate()) return DAY;
  const minutes = (date: Date): number => date.getTime() / 60_000;
  const step = STEPS.find(([length]) => Math.floor(minutes(before) / length) !== Math.floor(minutes(at) / length));
  return step?.[1] ?? SECOND;
}
