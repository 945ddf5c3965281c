"""Spans of requests and of batches on their way to the disk, told to a collector of OpenTelemetry where the settings
name one. Otherwise nothing of it is loaded, and who asks finds None.

A batch is the same for collector and shard by where it comes from: both know without a word between them whether it is
one of the sample, and what its trace is called.
"""

import hashlib
import random
import re
from importlib.util import find_spec
from typing import Any, Final

from actors.ledger.origin import Origin
from config import SettingsError
from config.tracing_settings import TracingSettings

EXPORT_TIMEOUT_S: Final = 5
_WHOLE: Final = 1 << 64
_TRACEPARENT: Final = re.compile(rb"00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})")


class Tracing:
    """Of a process; made by `begin`. Times are ns since the epoch."""

    def __init__(self, process: str, settings: TracingSettings) -> None:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
        from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, set_span_in_context

        class Ids(RandomIdGenerator):
            """Random ones, but where a batch says them."""

            given: tuple[int, int] | None = None

            def generate_trace_id(self) -> int:
                return self.given[0] if self.given else super().generate_trace_id()

            def generate_span_id(self) -> int:
                return self.given[1] if self.given else super().generate_span_id()

        self._sample = settings.sample
        self._ids: Any = Ids()
        resource = Resource.create({"service.name": "rayfeed", "service.instance.id": process})
        self._provider = TracerProvider(resource=resource, id_generator=self._ids, shutdown_on_exit=False)
        exporter = OTLPSpanExporter(endpoint=settings.endpoint, timeout=EXPORT_TIMEOUT_S)
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("rayfeed")

        def within(trace: int, span: int) -> Any:
            flags = TraceFlags(TraceFlags.SAMPLED)
            return set_span_in_context(NonRecordingSpan(SpanContext(trace, span, True, flags)))

        self._within = within

    def delivered(self, exchange: str, shard: int, origin: Origin, began: int, ended: int, batches: int) -> None:
        """A collector had a shard take batches in one call."""
        if ids := self._sampled(exchange, shard, origin):
            self._ids.given = ids
            try:
                self._tell("deliver", None, began, ended, exchange=exchange, shard=shard, batches=batches)
            finally:
                self._ids.given = None

    def stored(self, exchange: str, shard: int, origin: Origin, began: int, ended: int) -> None:
        """A shard has them in its files."""
        if ids := self._sampled(exchange, shard, origin):
            self._tell("store", self._within(*ids), began, ended, exchange=exchange, shard=shard)

    def answered(self, parent: bytes | None, name: str, began: int, ended: int, **about: Any) -> None:
        """A replica answered; `parent` is the request's header `traceparent`: who asks decides whether it is told."""
        said = _TRACEPARENT.fullmatch(parent or b"")
        if said is not None:
            if int(said[3], 16) & 1:
                self._tell(name, self._within(int(said[1], 16), int(said[2], 16)), began, ended, **about)
        elif random.random() < self._sample:  # noqa: S311 - not a secret
            self._tell(name, None, began, ended, **about)

    def close(self) -> None:
        """Tell what waits."""
        self._provider.shutdown()

    def _tell(self, name: str, within: Any, began: int, ended: int, **about: Any) -> None:
        self._tracer.start_span(name, within, start_time=began, attributes=about).end(ended)

    def _sampled(self, exchange: str, shard: int, origin: Origin) -> tuple[int, int] | None:
        """The trace and first span of a batch that is one of the sample."""
        said = f"{exchange}:{shard}:{origin.epoch}:{origin.sequence}".encode()
        digest = hashlib.blake2b(said, digest_size=32).digest()
        if int.from_bytes(digest[:8]) >= self._sample * _WHOLE:
            return None
        return int.from_bytes(digest[8:24]) | 1, int.from_bytes(digest[24:]) | 1


#: That of this process; None where nobody asked for it.
_ours: Tracing | None = None


def check(settings: TracingSettings) -> None:
    """`SettingsError` where spans are wanted and what tells them is not installed."""
    if settings.endpoint is not None and not _is_installed("opentelemetry.exporter.otlp.proto.http"):
        raise SettingsError("setting 'tracing.endpoint' needs the extra `tracing`: uv sync --extra tracing")


def begin(process: str, settings: TracingSettings) -> None:
    """Tell spans from now on, if the settings say where to; see `check`."""
    global _ours
    if settings.endpoint is not None and _ours is None:
        _ours = Tracing(process, settings)


def _is_installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # nor what it is part of
        return False


def tracing() -> Tracing | None:
    return _ours
