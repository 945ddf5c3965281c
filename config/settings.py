"""All settings in one typed tree.

Sources, weakest first: `config/defaults.yaml`, `DATA/settings.yaml`, environment (`RAYFEED_...`, nested
with `__`), command line. `CLICKHOUSE_URL`, `REDIS_URL`, `RAY_ADDRESS`, `POLYGON_API_KEY`, `FINNHUB_API_KEY`,
`CMC_API_KEY` and `TAAPI_SECRET` keep their usual names. A key nobody knows or a value that does not fit is one
`SettingsError` that names it.
"""

import os
from collections.abc import Mapping
from contextvars import ContextVar
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import (
    AfterValidator,
    AliasChoices,
    BeforeValidator,
    Field,
    SecretStr,
    ValidationError,
    model_validator,
)
from pydantic_settings import (
    BaseSettings,
    InitSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)
from pydantic_settings import SettingsError as UnreadableVariable

from config.breaker_settings import BreakerSettings
from config.cache_settings import CacheSettings
from config.edge_settings import EdgeSettings
from config.live_settings import LiveFeedSettings
from config.log_settings import LogSettings
from config.metrics_settings import MetricsSettings
from config.overview_settings import OverviewSettings
from config.pages_settings import PagesSettings
from config.part import Part, Positive, is_whole, make_whole
from config.placement_settings import PlacementSettings
from config.scaling_settings import ScalingSettings
from config.security_settings import SecuritySettings, check_production
from config.storage_settings import AgeingTable, BackupSettings, ColumnSettings, Days, RedisSettings, SinkSettings
from config.tracing_settings import TracingSettings

ENVIRONMENT_PREFIX = "RAYFEED_"
# Read by the tests, and what tells a node where its own data folder is; not settings.
_NOT_SETTINGS = {"RAYFEED_RECORDINGS", "RAYFEED_ARTIFACTS", "RAYFEED_NODE_DATA"}
# What the YAML files say, for the one `Settings` that is being made.
_files: ContextVar[dict[str, Any]] = ContextVar("_files")


class SettingsError(ValueError):
    """A setting nobody knows, or a value that does not fit; the message is one line for the user."""


Port = Annotated[int, Field(ge=1, le=65535)]
#: What every exchange's symbols fit in, and safe as a file name once `/` is replaced.
Symbol = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_:/.\-]{0,99}$")]
#: Stocks, indices (^GSPC) and futures (GC=F) as Yahoo and Polygon name them.
StockSymbol = Annotated[str, Field(pattern=r"^[A-Za-z0-9^][A-Za-z0-9^=_:.\-]{0,49}$")]
Seconds = Annotated[float, Field(gt=0, le=86400)]
#: 0.001 is 0.1 %.
Fraction = Annotated[float, Field(ge=0, lt=1)]
Currency = Annotated[str, Field(pattern=r"^[A-Z0-9]{1,20}$")]
ExchangeName = Literal["binance", "bitfinex", "bybit", "coinbase", "deribit", "kraken", "okx"]
#: Taken as text whatever it looks like: a message about a value that does not fit would show it.
Secret = Annotated[SecretStr, BeforeValidator(lambda value: str(value).strip())]


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


class CredentialSettings(Part):
    """What an exchange gave you to say who you are; never logged nor written to the journal."""

    key: str = Field(min_length=1)
    secret: str = Field(min_length=1, repr=False)


class ExchangeSettings(Part):
    """One exchange: where it is, which of its symbols (exchange-native names) to collect, and what of them."""

    enabled: bool = True
    websocket: str = Field(pattern=r"^wss?://")
    rest: str = Field(pattern=r"^https?://")
    symbols: list[Symbol] = Field(min_length=1)
    channels: list[Literal["trades", "quotes", "book", "derivatives", "liquidations"]] = Field(
        default=["trades", "quotes", "book", "derivatives", "liquidations"], min_length=1
    )
    credentials: CredentialSettings | None = None


class CollectorSettings(Part):
    flush_interval_ms: Positive
    max_frames: Positive
    max_bytes: Positive
    max_frame_bytes: Positive
    max_batches_in_flight: Positive
    quarantine: Positive
    journal_segment_bytes: Positive
    list_interval_s: Seconds
    list_retry_s: Seconds
    stale_s: Seconds


class ShardSettings(Part):
    commit_interval_ms: Positive
    share_interval_ms: Positive
    sync_interval_s: Annotated[float, Field(ge=0, le=86400)] | None
    max_open_files: Annotated[int, Field(ge=32)]
    recent_bars: Positive


class BarSettings(Part):
    grace_ms: Annotated[int, Field(ge=0)]


class FeatureSettings(Part):
    timeframes: list[Literal["1s", "1m", "5m", "15m", "1h", "4h", "1d"]]


class QualitySettings(Part):
    """When a trade fails a check, see docs/quality.md. `price_change` is a fraction."""

    late_s: Seconds
    early_s: Seconds
    deviations: Annotated[float, Field(gt=0, le=1000)]
    price_change: Annotated[float, Field(gt=0, le=10)]
    volume_ratio: Annotated[float, Field(ge=1, le=1e9)]
    level_shift_trades: Annotated[int, Field(ge=10, le=100)]
    silence_s: Seconds
    quarantine: Annotated[int, Field(ge=1, le=100_000)]


class ConsolidatedSettings(Part):
    """A quote no longer counts when it is older than `max_age_s`, or nothing came from its exchange for `silence_s`."""

    max_age_s: Seconds
    silence_s: Seconds


def _one_step(same: dict[str, str]) -> dict[str, str]:
    if again := sorted(same.keys() & {other for one, other in same.items() if one != other}):
        raise ValueError(f"{again[0]} cannot both count as another currency and be one that others count as")
    return same


class ArbitrageSettings(Part):
    """What counts as an opportunity: limits are inclusive, `fees` are what takers pay, as fractions."""

    min_spread: Fraction
    min_profit: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    fees: dict[ExchangeName, dict[Literal["spot", "perpetual"], Fraction]]
    same: Annotated[dict[Currency, Currency], AfterValidator(_one_step)]
    keep: Annotated[int, Field(ge=1, le=100_000)]


class SimulatorSettings(Part):
    """Made-up markets of all enabled exchanges and their symbols; `trades_per_second` of each exchange."""

    seed: int
    trades_per_second: Annotated[float, Field(gt=0)]


class ReplaySettings(Part):
    speed: Annotated[float, Field(ge=0)]


class ServingSettings(Part):
    max_reply_bytes: Positive


class RaySettings(Part):
    object_store_mb: Annotated[int, Field(ge=80)]
    serve: bool


class LiveSettings(Part):
    answer_timeout_s: Annotated[float, Field(gt=0)]


class SmtpSettings(Part):
    """The server that alerts by e-mail are handed to."""

    host: str = Field(min_length=1)
    port: Port = 587
    starttls: bool = True
    user: str | None = None
    password: Secret | None = None
    #: Who they are from.
    from_address: str = Field(pattern=r"^[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]+@[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?$")

    @model_validator(mode="after")
    def _both_or_none(self) -> Self:
        if (self.user is None) != (self.password is None):
            raise ValueError("user and password go together")
        return self


class AlertSettings(Part):
    max_alerts: Positive
    delivery_log: Positive
    allow_private_targets: bool
    smtp: SmtpSettings | None = None


class PollerSettings(Part):
    """A provider of bars that is asked again and again; `symbols` as the provider names them."""

    enabled: bool
    url: str = Field(pattern=r"^https?://")
    symbols: list[StockSymbol] = Field(min_length=1, max_length=2000)
    calendar: str
    requests_per_minute: Positive
    open_interval_s: Seconds
    closed_interval_s: Seconds
    settle_s: Annotated[float, Field(ge=0, le=86400)]
    timeout_s: Seconds
    first_retry_s: Seconds
    longest_retry_s: Seconds
    breaker: BreakerSettings


class YahooSettings(PollerSettings):
    user_agent: Annotated[str, Field(pattern=r"^[ -~]{1,200}$")]


class PolygonSettings(PollerSettings):
    timeframes: list[Literal["1m", "1d"]] = Field(min_length=1)


class PollersSettings(Part):
    yahoo: YahooSettings
    polygon: PolygonSettings


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
    journal: bool
    exchanges: dict[ExchangeName, ExchangeSettings]
    collector: CollectorSettings
    shard: ShardSettings
    columns_policy: ColumnSettings
    bars: BarSettings
    features: FeatureSettings
    quality: QualitySettings
    sinks: SinkSettings
    redis: RedisSettings
    retention: dict[AgeingTable, Days | None]
    consolidated: ConsolidatedSettings
    arbitrage: ArbitrageSettings
    simulator: SimulatorSettings
    replay: ReplaySettings
    serving: ServingSettings
    edge: EdgeSettings
    cache: CacheSettings
    pages: PagesSettings = PagesSettings()
    scaling: ScalingSettings
    placement: PlacementSettings = PlacementSettings()
    ray: RaySettings
    live: LiveSettings
    live_feed: LiveFeedSettings
    pollers: PollersSettings
    overview: OverviewSettings = OverviewSettings()
    alerts: AlertSettings
    metrics: MetricsSettings = MetricsSettings()
    logs: LogSettings = LogSettings()
    tracing: TracingSettings = TracingSettings()
    backup: BackupSettings
    security: SecuritySettings
    clickhouse_url: str | None = Field(None, validation_alias=_plain_name("clickhouse_url"))
    clickhouse_cluster: Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.\-]{0,99}$")] | None = None
    redis_url: str | None = Field(None, validation_alias=_plain_name("redis_url"))
    ray_address: str | None = Field(None, validation_alias=_plain_name("ray_address"))
    auto_update_secret_key: Secret | None = Field(None, validation_alias=_plain_name("auto_update_secret_key"))
    polygon_api_key: Secret | None = Field(None, validation_alias=_plain_name("polygon_api_key"))
    finnhub_api_key: Secret | None = Field(None, validation_alias=_plain_name("finnhub_api_key"))
    cmc_api_key: Secret | None = Field(None, validation_alias=_plain_name("cmc_api_key"))
    taapi_secret: Secret | None = Field(None, validation_alias=_plain_name("taapi_secret"))

    @model_validator(mode="after")
    def _cluster_of_a_server(self) -> Self:
        if self.clickhouse_cluster is not None and self.clickhouse_url is None:
            raise ValueError("clickhouse_cluster needs CLICKHOUSE_URL: one of its servers")
        return self

    @model_validator(mode="after")
    def _fit_for_production(self) -> Self:
        check_production(self.security, ("REDIS_URL", self.redis_url), ("CLICKHOUSE_URL", self.clickhouse_url))
        return self

    @property
    def replay_folder(self) -> Path | None:
        """The folder of captures to play, or None when the source is not a replay."""
        kind, _, folder = self.source.partition(":")
        return Path(folder) if kind == "replay" else None

    def exchange(self, name: str) -> ExchangeSettings:
        """The settings of one exchange; KeyError when there is none of that name."""
        return {str(known): own for known, own in self.exchanges.items()}[name]

    @property
    def columns(self) -> Path:
        """Root of the column files."""
        return self.data / "columns"

    @property
    def archive(self) -> str:
        """Where days go that become Parquet: a folder, or an address pyarrow knows."""
        return self.columns_policy.archive or str(self.data / "archive")

    @property
    def bars_folder(self) -> Path:
        """Where bars of days that are over are kept."""
        return self.data / "bars"

    @property
    def quality_folder(self) -> Path:
        """Where what is known of the quality of trades is kept."""
        return self.data / "quality"

    @property
    def backups(self) -> str:
        """Where backups go: a path or a URI."""
        to = self.backup.to or "backups"
        return to if "://" in to else str(self.data / to)

    @property
    def journals(self) -> Path:
        """The folder of the raw journals."""
        return self.data / "journal"

    def __setstate__(self, state: dict[Any, Any]) -> None:
        """What was set travels to other processes, which may run newer code than the one that sent it: there, what
        this code knows of it counts, and today's default of what the other did not know."""
        super().__setstate__(state)
        if not is_whole(self):
            make_whole(self, _defaults(self.data))

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


def _defaults(data: Path) -> Settings:
    """What nobody has set anything of, the environment neither."""
    token = _files.set({})
    try:
        return Settings(data=data, **_read_yaml(Path(__file__).with_name("defaults.yaml")))
    finally:
        _files.reset(token)


def _one_line(error: ValidationError) -> str:
    first = error.errors(include_url=False)[0]
    # A key of a dict appears in the location as itself and once more as "[key]".
    key = ".".join(str(part) for part in first["loc"] if part != "[key]")
    if first["type"] == "extra_forbidden":
        return f"unknown setting {key!r}"
    # Of several values together one may be a secret.
    found = "" if isinstance(first["input"], Mapping) else f" is {first['input']!r}"
    return f"setting {key!r}{found}: {first['msg'].removeprefix('Value error, ')}"


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
