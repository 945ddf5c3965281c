"""The expressions that panels are made of: `$instance`, `$exchange` and `$__rate_interval` are Grafana's to fill in."""

from typing import Final

ALL: Final = 'instance=~"$instance"'
OF: Final = f'{ALL}, exchange=~"$exchange"'
UP: Final = ((0, "down", "red"), (1, "up", "green"))
FAILED: Final = 'code="5xx"'
GIVEN: Final = 'result=~"hit|stale"'
HEALTH: Final = "/-/healthz|/healthz|/readyz|/health|/metrics|/api/v1/stream.*"

#: Not the questions of who looks whether we live.
ASKED: Final = f'route!~"{HEALTH}"'


def rate(metric: str, by: str = "", more: str = "", over: str = ALL) -> str:
    selected = f"{over}, {more}" if more else over
    return f"sum by ({by}) (rate(rayfeed_{metric}{{{selected}}}[$__rate_interval]))"


def quantile(part: float, metric: str, by: str, more: str = "", over: str = ALL) -> str:
    return f"histogram_quantile({part}, {rate(f'{metric}_bucket', f'{by}, le' if by else 'le', more, over)})"


def total(metric: str, by: str = "", more: str = "", over: str = ALL) -> str:
    selected = f"{over}, {more}" if more else over
    return f"sum by ({by}) (rayfeed_{metric}{{{selected}}})"
