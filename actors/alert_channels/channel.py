"""What every channel of alerts can do."""

from typing import Protocol

from actors.alerting.retries import Outcome
from storage.alert_log import Firing, Targets


class Channel(Protocol):
    async def send(self, targets: Targets, firing: Firing) -> Outcome:
        """Tell once; whatever can go wrong is an outcome. Cancelled when it takes too long."""

    async def close(self) -> None: ...
