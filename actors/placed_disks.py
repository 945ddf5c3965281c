"""Which disks an instance has, as the placement's file says: that is what counts, whoever runs. Asks nobody."""

from pathlib import Path

from actors.placement import Placement, decoded
from config import Settings, SettingsError
from config.node_folder import disk_of


def file_of(settings: Settings) -> Path:
    return settings.data / "placement.json"


def placed(settings: Settings) -> Placement | None:
    """Where symbols are, by the file of the instance; None where it has none yet. `SettingsError`."""
    path = file_of(settings)
    try:
        return decoded(path.read_bytes())
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise SettingsError(f"{path} is no placement of symbols: {error}") from None


def names_of_others(settings: Settings) -> list[str]:
    """Disks but that of this data folder that have symbols, and those that were lost with some."""
    placement = placed(settings)
    return [] if placement is None else others_in(placement, disk_of(settings.data))


def others_in(placement: Placement, mine: str) -> list[str]:
    """Disks but `mine`, ascending."""
    return sorted({*placement.disks.values(), *placement.away} - {"", mine})


def called(disk: str) -> str:
    """What users are told of a host that nobody knows more of."""
    return f"the host with disk {disk[:8]}"
