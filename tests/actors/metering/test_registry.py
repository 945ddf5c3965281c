"""What many processes tell becomes one whole."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from actors.metering import registry as module
from actors.metering.catalog import BY_NAME, METRICS
from actors.metering.exposition import text
from actors.metering.meters import Counted, Durations, Samples, snapshot
from actors.metering.registry import MOST_CHARACTERS, OTHER, SILENT_S, Registry

MESSAGES = "rayfeed_messages_total"
MEMORY = "rayfeed_process_resident_memory_bytes"


def series(registry: Registry, name: str) -> dict[tuple[str, ...], float | list[float]]:
    return next((found for metric, found in registry.collect() if metric.name == name), {})


def test_a_counter_goes_on_where_it_was_when_its_process_begins_anew() -> None:
    registry = Registry()
    for value in (10.0, 15.0, 3.0, 4.0):
        registry.take("collector", {(MESSAGES, ("okx",)): value}, 0.0)
    assert series(registry, MESSAGES) == {("okx",): 19.0}


def test_counters_of_several_processes_add_up_and_stay_when_one_goes() -> None:
    registry = Registry()
    registry.take("one", {(MESSAGES, ("okx",)): 5.0}, 0.0)
    registry.take("two", {(MESSAGES, ("okx",)): 7.0}, 0.0)
    registry.forget("two")
    registry.take("three", {(MESSAGES, ("okx",)): 1.0}, 0.0)
    assert series(registry, MESSAGES) == {("okx",): 13.0}


def test_gauges_of_several_processes_add_up_until_one_is_silent() -> None:
    registry = Registry()
    registry.take("one", {(MEMORY, ("data",)): 5.0}, 0.0)
    registry.take("two", {(MEMORY, ("data",)): 7.0}, SILENT_S)
    assert series(registry, MEMORY) == registry.gauge(MEMORY) == {("data",): 12.0}
    registry.forget_silent(SILENT_S + 1)
    assert series(registry, MEMORY) == registry.gauge(MEMORY) == {("data",): 7.0}


def test_who_is_to_tell_seldom_is_there_between() -> None:
    registry = Registry(interval_s=60)
    registry.take("replica", {(MEMORY, ("data",)): 5.0}, 0.0)
    registry.forget_silent(125)
    assert series(registry, MEMORY) == {("data",): 5.0}
    registry.forget_silent(181)
    assert series(registry, MEMORY) == {}


def test_what_was_counted_before_a_silence_is_not_counted_again() -> None:
    registry = Registry()
    registry.take("collector", {(MESSAGES, ("okx",)): 100.0}, 0.0)
    # An actor that does not answer says nothing of what it counts, and may be silent for longer than is waited.
    registry.take("collector", {("rayfeed_actor_up", ("collector",)): 0.0}, 1.0)
    registry.take("collector", {(MESSAGES, ("okx",)): 110.0}, 2.0)
    assert series(registry, MESSAGES) == {("okx",): 110.0}
    registry.forget_silent(3 + SILENT_S)
    assert len(registry) == 0
    registry.take("collector", {(MESSAGES, ("okx",)): 120.0}, 4 + SILENT_S)
    assert series(registry, MESSAGES) == {("okx",): 120.0}


def test_of_processes_that_come_and_go_no_more_is_remembered_than_there_may_be(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "MOST_SOURCES", 3)
    registry = Registry()
    for number in range(10):
        registry.take(f"replica {number}", {(MESSAGES, ("okx",)): 1.0}, 0.0)
        registry.take("collector", {(MESSAGES, ("okx",)): float(number)}, 0.0)
        registry.forget_silent(2 * SILENT_S)
    assert len(registry._counted) == 3
    assert series(registry, MESSAGES) == {("okx",): 19.0}


def test_what_several_look_at_is_not_added_up() -> None:
    registry = Registry()
    for source, free in (("one", 100.0), ("two", 90.0)):
        registry.take(source, {("rayfeed_disk_free_bytes", ("host",)): free}, 0.0)
    assert series(registry, "rayfeed_disk_free_bytes") == {("host",): 90.0}


def test_a_metric_nobody_knows_and_labels_that_do_not_fit_are_refused() -> None:
    registry = Registry()
    with pytest.raises(KeyError):
        registry.take("one", {("rayfeed_something", ()): 1.0}, 0.0)
    with pytest.raises(ValueError, match="has the labels"):
        registry.take("one", {(MESSAGES, ("okx", "more")): 1.0}, 0.0)
    assert len(registry) == 0


texts = st.text(max_size=200)


@given(st.lists(st.tuples(texts, texts, st.floats(0, 1e12)), max_size=60))
def test_labels_stay_bounded_whatever_symbols_and_exchanges_come(told: list[tuple[str, str, float]]) -> None:
    registry = Registry(most_series=5)
    for number, (exchange, symbol, value) in enumerate(told):
        samples: Samples = {
            ("rayfeed_symbol_synced", (exchange, symbol)): value,
            (MESSAGES, (exchange,)): value,
            ("rayfeed_lag_seconds", (symbol, exchange)): [value] * (len(BY_NAME["rayfeed_lag_seconds"].ends) + 2),
        }
        registry.take(f"source {number}", samples, 0.0)
    for _, found in registry.collect():
        assert len(found) <= 6  # and `other`
        assert all(len(label) <= MOST_CHARACTERS for labels in found for label in labels)
    assert sum(value for value in series(registry, MESSAGES).values() if isinstance(value, float)) == pytest.approx(
        sum(value for _, _, value in told)
    )
    list(text_string_to_metric_families(text(registry.collect()).decode()))


def test_what_had_no_room_is_counted_under_other() -> None:
    registry = Registry(most_series=2)
    for exchange in "abcd":
        registry.take(exchange, {(MESSAGES, (exchange,)): 1.0}, 0.0)
    assert series(registry, MESSAGES) == {("a",): 1.0, ("b",): 1.0, (OTHER,): 2.0}
    assert series(registry, "rayfeed_metrics_series_merged_total")[(MESSAGES,)] >= 2.0


@given(st.lists(st.integers(-(10**9), 10**12), min_size=1, max_size=50))
def test_durations_measured_at_once_fall_where_they_fall_one_by_one(durations: list[int]) -> None:
    at_once, one_by_one = Durations("rayfeed_lag_seconds"), Durations("rayfeed_lag_seconds")
    at_once.observe_ns(np.array(durations), "s", "e")
    for duration in durations:
        one_by_one.observe(duration * 1e-9, "s", "e")
    (many,), (single,) = at_once.samples().values(), one_by_one.samples().values()
    assert isinstance(many, list) and isinstance(single, list)
    assert many[:-1] == single[:-1]
    assert many[-1] == pytest.approx(single[-1])


def test_a_snapshot_has_what_was_counted_and_the_process_itself() -> None:
    counted = Counted(MESSAGES)
    counted.add("bybit", by=3)
    found = snapshot("test")
    assert found[MESSAGES, ("bybit",)] == 3
    assert found[MEMORY, ("test",)] > 10_000_000  # type: ignore[operator]
    assert found["rayfeed_process_open_files", ("test",)] > 2  # type: ignore[operator]


def test_the_text_is_what_prometheus_reads() -> None:
    registry = Registry()
    durations = Durations("rayfeed_sync_duration_seconds")
    for seconds in (0.0002, 0.02, 100.0):
        durations.observe(seconds)
    registry.take("one", {**durations.samples(), (MESSAGES, ('a "quoted"\n\\name',)): 2.0}, 0.0)
    families = {family.name: family for family in text_string_to_metric_families(text(registry.collect()).decode())}
    assert families["rayfeed_messages"].samples[0].labels == {"exchange": 'a "quoted"\n\\name'}
    samples = families["rayfeed_sync_duration_seconds"].samples
    buckets = {one.labels["le"]: one.value for one in samples if one.name.endswith("_bucket")}
    assert (buckets["0.0001"], buckets["0.00025"], buckets["0.025"], buckets["60.0"], buckets["+Inf"]) == (
        0,
        1,
        2,
        2,
        3,
    )
    assert next(one.value for one in samples if one.name.endswith("_sum")) == pytest.approx(100.0202)


def test_names_have_one_style() -> None:
    assert len(BY_NAME) == len(METRICS)
    for metric in METRICS:
        assert metric.name.startswith("rayfeed_")
        assert metric.name.endswith("_total") == (metric.kind == "counter")
        assert (metric.kind == "histogram") == bool(metric.ends)
        assert metric.help.endswith(".")
        assert "client" not in metric.labels and "user" not in metric.labels and "error" not in metric.labels
