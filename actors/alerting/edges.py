"""When an alert fires: at the event where its condition begins to hold, and not again before it did not hold.

The first event an alert sees stands for itself: if the condition holds there, the alert fires; one about a crossing
waits for the crossing. Within the cool-down after a firing (event time) it does not fire, nor later for what happened
then: who was told keeps the cool-down quiet until the condition has not held and holds anew. An event before or at the
last one an alert has seen changes nothing, so whatever comes late or twice never fires.
"""

from collections.abc import Iterator

import numpy as np

from actors.alerting.conditions import CONDITIONS, Bools
from actors.alerting.series import Events
from storage.alert_log import Alert

SECOND_NS = 1_000_000_000


def firings(alert: Alert, events: Events, holds: Bools) -> Iterator[int]:
    """The positions of the events at which it fires. `alert` follows: at each of them it is what has to be remembered
    of it then, and at the end all events are seen."""
    begin = events.after(alert.seen)
    if begin == len(holds):
        return
    now = holds[begin:]
    before = alert.holds
    if before is None:
        before = bool(now[0]) and CONDITIONS[alert.condition].crossing
    if not (now == before).all():
        edges = now.copy()
        edges[0] &= not before
        edges[1:] &= ~now[:-1]
        for place in (np.flatnonzero(edges) + begin).tolist():
            at, order = events.place(place)
            if at < alert.quiet_until:
                continue
            alert.holds, alert.seen = True, (at, order)
            alert.last_triggered_at, alert.trigger_count = at, alert.trigger_count + 1
            # Of several at the same time, one: a firing is known by the alert and its time.
            alert.quiet_until = at + max(alert.cooldown_seconds * SECOND_NS, 1)
            alert.is_active = not alert.one_time
            yield place
            if not alert.is_active:
                return
    alert.holds, alert.seen = bool(now[-1]), events.place(len(holds) - 1)
