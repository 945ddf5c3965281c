"""The settings of an instance as they are now: those it was started with, and what was changed since. Every change is a
version that is kept; going back to one is a further one.
"""

import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from config import Settings
from config.changeable import changed, fixed_of, values_of
from storage.configuration_log import ConfigurationLog, Version

#: A longer remark is cut.
LONGEST_NOTE: Final = 500


class OutdatedVersion(ValueError):
    """Somebody else changed the configuration meanwhile. One line, fit for users."""


class UnknownVersion(LookupError):
    """There is no such version. One line, fit for users."""


class Configuration:
    """Of one instance; whoever owns it tells the actors. OSError when the disk fails: nothing has changed then."""

    def __init__(self, settings: Settings, clock: Callable[[], int] = time.time_ns) -> None:
        """`SettingsError` when what was changed no longer fits the settings."""
        self._started_with = settings
        self._clock = clock
        self._log = ConfigurationLog(settings.data / "configuration" / "versions.log")
        newest = self._log.newest
        self.settings = settings if newest is None else changed(settings, _differing(newest.values, settings))

    def now(self) -> dict[str, Any]:
        """`version` (0: as it was started), `values` that may change by section, and what is `fixed`."""
        newest = self._log.newest or Version(number=0, time=0, user="", note="", values={})
        said = {"version": newest.number, "time": newest.time, "user": newest.user, "note": newest.note}
        return {**said, "values": values_of(self.settings), "fixed": fixed_of(self._started_with)}

    def versions(self) -> list[dict[str, Any]]:
        """The newest first, each with `changed`: what differs from the one before it."""
        found = self._log.versions()
        before = [*found[1:], None][: len(found)]
        return [
            {
                "version": one.number,
                "time": one.time,
                "user": one.user,
                "note": one.note,
                "undoes": one.undoes,
                "changed": differences(one.values, earlier.values if earlier else values_of(self._started_with)),
            }
            for one, earlier in zip(found, before, strict=True)
        ]

    def change(
        self, values: Mapping[str, Any], note: str, user: str, expected: int | None, undoes: int | None = None
    ) -> dict[str, Any]:
        """Let these values hold from now on; what differs then. `SettingsError`; `OutdatedVersion` when `expected` is
        not the newest version."""
        newest = self._log.newest
        number = 0 if newest is None else newest.number
        if expected is not None and expected != number:
            raise OutdatedVersion(f"the configuration is version {number} by now, not {expected}: look at it again")
        settings = changed(self.settings, values)
        before, after = values_of(self.settings), values_of(settings)
        if before != after:
            cut = note[:LONGEST_NOTE]
            self._log.append(
                Version(number=number + 1, time=self._clock(), user=user, note=cut, values=after, undoes=undoes)
            )
            self.settings = settings
        return differences(after, before)

    def rollback(self, number: int, note: str, user: str) -> dict[str, Any]:
        """Let the values of a version hold again (0: those it was started with); what differs then. `UnknownVersion`;
        `SettingsError` when they no longer fit."""
        if number == 0:
            values = values_of(self._started_with)
        else:
            found = next((one for one in self._log.versions() if one.number == number), None)
            if found is None:
                raise UnknownVersion(f"there is no version {number} of the configuration")
            values = found.values
        return self.change(values, note, user, None, undoes=number)

    def close(self) -> None:
        self._log.close()


def differences(after: Mapping[str, Any], before: Mapping[str, Any]) -> dict[str, Any]:
    """Values that are not as before, by section and name, as [before, after]."""
    found = {
        section: {
            name: [before.get(section, {}).get(name), value]
            for name, value in values.items()
            if before.get(section, {}).get(name) != value
        }
        for section, values in after.items()
    }
    return {section: values for section, values in found.items() if values}


def _differing(values: Mapping[str, Any], settings: Settings) -> dict[str, Any]:
    """Of kept values those that may change still, as another version of the program may have kept others."""
    known = values_of(settings)
    return {
        section: {name: value for name, value in given.items() if name in known[section]}
        for section, given in values.items()
        if section in known
    }
