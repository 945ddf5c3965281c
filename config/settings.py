"""All settings in one typed tree.

Sources, weakest first: `config/defaults.yaml`, `DATA/settings.yaml`, environment (`RAYFEED_...`, nested
with `__`), command line. `CLICKHOUSE_URL`, `REDIS_URL` and `RAY_ADDRESS` keep their usual names. A key
nobody knows or a value that does not fit is one `SettingsError` that names it.
"""

import os
from collections.abc import Mapping
from contextvars import ContextVar
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import AfterValidator, AliasChoices, BaseModel, ConfigDict, Field, ValidationError
from pydantic_settings import (
    BaseSettings,
    InitSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)
from pydantic_settings import SettingsError as UnreadableVariable

ENVIRONMENT_PREFIX = "RAYFEED_"
# Read by the tests, not a setting.
_NOT_SETTINGS = {"RAYFEED_RECORDINGS"}
# What the YAML files say, for the one `Settings` that is being made.
_files: ContextVar[dict[str, Any]] = ContextVar("_files")


class SettingsError(ValueError):
    """A setting nobody knows, or a value that does not fit; the message is one line for the user."""


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


Port = Annotated[int, Field(ge=1, le=65535)]
Positive = Annotated[int, Field(gt=0)]
#: What every exchange's symbols fit in, and safe as a file name once `/` is replaced.
Symbol = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_:/.\-]{0,99}$")]


def _plain_name(setting: str) -> AliasChoices:
    """These keep the names everybody knows (CLICKHOUSE_URL) beside the prefixed ones."""
    return AliasChoices(setting, setting.upper(), f"{ENVIRONMENT_PREFIX}{setting.upper()}")


def _known_source(source: str) -> str:
    if source in ("sim", "live"):
        return source
    kind, _, folder = source.partition(":")
    if kind == "replay" and folder:
        return f"replay:{Path(folder).absolute()}"
    raise ValueError("must be sim, live or replay:DIR")


class ExchangeSettings(_Part):
    """One exchange: where it is and which of its symbols (exchange-native names) to collect."""

    enabled: bool = True
    websocket: str = Field(pattern=r"^wss?://")
    rest: str = Field(pattern=r"^https?://")
    symbols: list[Symbol] = Field(min_length=1)


class CollectorSettings(_Part):
    flush_interval_ms: Positive
    max_frames: Positive
    max_bytes: Positive
    max_frame_bytes: Positive
    max_batches_in_flight: Positive
    quarantine: Positive


class ShardSettings(_Part):
    commit_interval_ms: Positive
    share_interval_ms: Positive
    max_open_files: Annotated[int, Field(ge=32)]
    recent_bars: Positive


class BarSettings(_Part):
    grace_ms: Annotated[int, Field(ge=0)]


class SinkSettings(_Part):
    max_pending: Positive


class SimulatorSettings(_Part):
    seed: int
    symbols: list[Symbol] = Field(min_length=1)
    trades_per_second: Annotated[float, Field(gt=0)]


class ReplaySettings(_Part):
    speed: Annotated[float, Field(ge=0)]


class ServingSettings(_Part):
    data_replicas: Positive
    market_replicas: Positive
    page_replicas: Positive
    max_reply_bytes: Positive


class RaySettings(_Part):
    object_store_mb: Annotated[int, Field(ge=80)]


class LiveSettings(_Part):
    answer_timeout_s: Annotated[float, Field(gt=0)]


class Settings(BaseSettings):
    """Everything rayfeed can be told. `data` is the folder that names the instance."""

    model_config = SettingsConfigDict(
        env_prefix=ENVIRONMENT_PREFIX, env_nested_delimiter="__", extra="forbid", frozen=True
    )

    data: Path
    source: Annotated[str, AfterValidator(_known_source)]
    host: str
    port: Port
    tls_port: Port
    shards: Annotated[int, Field(ge=1, le=256)]
    exchanges: dict[Literal["binance", "coinbase"], ExchangeSettings]
    collector: CollectorSettings
    shard: ShardSettings
    bars: BarSettings
    sinks: SinkSettings
    simulator: SimulatorSettings
    replay: ReplaySettings
    serving: ServingSettings
    ray: RaySettings
    live: LiveSettings
    clickhouse_url: str | None = Field(None, validation_alias=_plain_name("clickhouse_url"))
    redis_url: str | None = Field(None, validation_alias=_plain_name("redis_url"))
    ray_address: str | None = Field(None, validation_alias=_plain_name("ray_address"))

    @property
    def replay_folder(self) -> Path | None:
        """The folder of captures to play, or None when the source is not a replay."""
        kind, _, folder = self.source.partition(":")
        return Path(folder) if kind == "replay" else None

    @property
    def columns(self) -> Path:
        """Root of the column files."""
        return self.data / "columns"

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return init_settings, env_settings, InitSettingsSource(settings_cls, _files.get())


def load(data: Path | str = "data", overrides: Mapping[str, Any] | None = None) -> Settings:
    """Settings of the instance whose folder is `data`.

    `overrides` (the command line) has the shape of the tree; None values are ignored. Raises
    `SettingsError` with one line that names the key and what would fit.
    """
    data = Path(data).absolute()
    _check_environment()
    tree = _read_yaml(Path(__file__).with_name("defaults.yaml"))
    own = data / "settings.yaml"
    if own.is_file():
        _merge(tree, _read_yaml(own))
    token = _files.set(tree)
    try:
        return Settings(data=data, **{k: v for k, v in (overrides or {}).items() if v is not None})
    except ValidationError as error:
        raise SettingsError(_one_line(error)) from None
    except UnreadableVariable as error:
        raise SettingsError(f"{error}: not valid JSON") from None
    finally:
        _files.reset(token)


def _one_line(error: ValidationError) -> str:
    first = error.errors(include_url=False)[0]
    # A key of a dict appears in the location as itself and once more as "[key]".
    key = ".".join(str(part) for part in first["loc"] if part != "[key]")
    if first["type"] == "extra_forbidden":
        return f"unknown setting {key!r}"
    return f"setting {key!r} is {first['input']!r}: {first['msg'].removeprefix('Value error, ')}"


def _check_environment() -> None:
    """Pydantic passes over variables that match no setting; a misspelt one must not be passed over."""
    for name in os.environ:
        if name.startswith(ENVIRONMENT_PREFIX) and name not in _NOT_SETTINGS:
            key = name.removeprefix(ENVIRONMENT_PREFIX).lower().split("__")[0]
            if key not in Settings.model_fields:
                raise SettingsError(f"unknown setting {key!r} (environment variable {name})")


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        where = getattr(error, "problem_mark", None)
        line = f" line {where.line + 1}" if where else ""
        raise SettingsError(f"{path}{line}: not valid YAML") from None
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path} cannot be read: {error}") from None
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise SettingsError(f"{path}: expected settings as key: value")
    return content


def _merge(tree: dict[str, Any], other: Mapping[str, Any]) -> None:
    for key, value in other.items():
        if isinstance(value, Mapping) and isinstance(tree.get(key), dict):
            _merge(tree[key], value)
        else:
            tree[key] = value
