"""What of the settings may change while an instance runs, and what it may become: what `config.settings` accepts."""

from collections.abc import Mapping
from typing import Any, Final

from pydantic import TypeAdapter, ValidationError

from config.settings import Settings, SettingsError

#: By section, its settings that take effect at once; None: all of them.
CHANGEABLE: Final[Mapping[str, tuple[str, ...] | None]] = {
    "quality": (
        *("late_s", "early_s", "deviations", "price_change", "volume_ratio", "level_shift_trades", "silence_s"),
    ),
    "arbitrage": ("min_spread", "min_profit"),
    "features": ("timeframes",),
    "retention": None,
}
#: Sections that are shown and need a restart. None of them holds a secret.
FIXED: Final = (
    *("source", "shards", "journal", "collector", "shard", "bars", "sinks", "consolidated", "simulator", "replay"),
    *("serving", "ray", "live"),
)


def values_of(settings: Settings) -> dict[str, dict[str, Any]]:
    """What may change, as it is, by section."""
    tree = settings.model_dump(mode="json", include=set(CHANGEABLE))
    return {
        section: {name: value for name, value in tree[section].items() if names is None or name in names}
        for section, names in CHANGEABLE.items()
    }


def fixed_of(settings: Settings) -> dict[str, Any]:
    """What stays as it was at the start."""
    return settings.model_dump(mode="json", include=set(FIXED))


def changed(settings: Settings, values: Mapping[str, Any]) -> Settings:
    """Settings with some values, by section, in place of theirs. `SettingsError`, in one line that names the key."""
    known, update = values_of(settings), dict[str, Any]()
    for section, given in values.items():
        if section not in known:
            raise SettingsError(f"{section[:100]!r} cannot change while it runs; what can: {', '.join(known)}")
        if not isinstance(given, Mapping):
            raise SettingsError(f"{section!r} must have values by name")
        if unknown := sorted(map(str, given.keys() - known[section].keys())):
            can = ", ".join(known[section])
            raise SettingsError(f"'{section}.{unknown[0][:100]}' cannot change while it runs; what can: {can}")
        before = settings.model_dump(include={section})[section]
        try:
            kind: Any = Settings.model_fields[section].annotation
            update[section] = TypeAdapter(kind).validate_python({**before, **given})
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            key = ".".join(str(part) for part in (section, *first["loc"]) if part != "[key]")
            raise SettingsError(f"setting {key!r}: {first['msg'].removeprefix('Value error, ')}") from None
    return settings.model_copy(update=update)
