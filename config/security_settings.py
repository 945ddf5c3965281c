"""Who may do what, how often, and what a request may be; see docs/security.md."""

import ipaddress
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import Field

from config.part import Part, Positive

Origin = Annotated[str, Field(pattern=r"^(\*|https?://[A-Za-z0-9.\-\[\]:]{1,255})$")]


class RateSettings(Part):
    """So many requests at once, and as many again in every `per_s` seconds."""

    requests: Annotated[int, Field(ge=1, le=1_000_000)]
    per_s: Annotated[float, Field(gt=0, le=86400)]


class RateLimitSettings(Part):
    """None: no limit. `api` for each client address, `user` for each user instead, `exports` besides for either of
    them, `data` for `/api/data`; `loopback`: also for clients on this machine."""

    api: RateSettings | None
    user: RateSettings | None
    exports: RateSettings | None
    data: RateSettings | None
    loopback: bool


class SecuritySettings(Part):
    """`public_reads` None: reading needs a token in production only. `access_minutes` and `refresh_days` are how long
    tokens are good for, `signing_key_days` after how many days new ones are signed with a new key."""

    production: bool
    public_reads: bool | None
    register_users: Annotated[bool, Field(alias="register")]
    access_minutes: Annotated[int, Field(ge=1, le=1440)]
    refresh_days: Annotated[int, Field(ge=1, le=90)]
    signing_key_days: Annotated[int, Field(ge=1, le=3650)]
    max_users: Annotated[int, Field(ge=1, le=10_000)]
    max_keys_per_user: Annotated[int, Field(ge=1, le=100)]
    cors_origins: list[Origin]
    max_body_bytes: Positive
    time_limit_s: Annotated[float, Field(gt=0, le=3600)]
    rate_limits: RateLimitSettings

    @property
    def reads_are_public(self) -> bool:
        return not self.production if self.public_reads is None else self.public_reads


def check_production(security: SecuritySettings, *servers: tuple[str, str | None]) -> None:
    """ValueError for what production mode does not put up with: one of these servers (its setting, its URL) on another
    machine that asks for no password."""
    for name, url in servers if security.production else ():
        where = urlsplit(url or "")
        if where.hostname and not is_loopback(where.hostname) and not where.password:
            raise ValueError(f"security.production: {name} has no password: no server may stand open to its network")


def is_loopback(host: str) -> bool:
    """Whether only this machine is meant."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
