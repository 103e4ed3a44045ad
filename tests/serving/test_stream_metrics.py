"""The metrics page, read with Prometheus' own parser, and what the worker counts."""

from __future__ import annotations

from dataclasses import fields

import pytest
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from ray_fer.serving.metrics import COUNTERS, GAUGES, exposition
from ray_fer.streaming.commits import DeadLetter, Turn
from ray_fer.streaming.progress import PartitionProgress
from ray_fer.streaming.statistics import WorkerStatistics, total
from ray_fer.streaming.windows import WindowConfig
from tests.predictions import prediction


def samples(workers: dict[str, WorkerStatistics]) -> list[Sample]:
    page = exposition({name: statistics.summary() for name, statistics in workers.items()}).decode()
    return [sample for family in text_string_to_metric_families(page) for sample in family.samples]


def value(found: list[Sample], name: str, **labels: str) -> float:
    return sum(one.value for one in found if one.name == name and labels.items() <= one.labels.items())


def turn(*latencies_ms: float | None, dead: int = 0, status: str = "ok") -> Turn:
    predictions = [prediction(index, "Happy") for index, _ in enumerate(latencies_ms)]
    for one, latency_ms in zip(predictions, latencies_ms, strict=True):
        one.latency_ms, one.status = latency_ms, status
    return Turn(None, {}, {}, predictions, [DeadLetter(b"", b"", [])] * dead)


def test_counters_of_two_workers() -> None:
    one, other = WorkerStatistics(), WorkerStatistics()
    for number, statistics in enumerate((one, other), start=1):
        for seq in range(10 * number):
            statistics.record(b"12345")
            statistics.frame("s", "late" if seq == 0 else "kept", seq * 100_000)
    one.committed(turn(100, 900, dead=2))
    other.committed(turn(None, status="skipped"))
    one.observe({0: 7, 2: 1}, [], 3)
    other.observe({1: 5}, [], 0)
    with one.stage("faces", 16), one.stage("expressions", 2):
        pass
    found = samples({"a": one, "b": other})
    assert value(found, "ray_fer_workers") == 2
    assert value(found, "ray_fer_records_total") == 30
    assert value(found, "ray_fer_record_bytes_total", replica="b") == 100
    assert value(found, "ray_fer_frames_total", verdict="kept") == 28
    assert value(found, "ray_fer_frames_total", verdict="late", replica="a") == 1
    assert value(found, "ray_fer_windows_total", status="ok") == 2
    assert value(found, "ray_fer_windows_total", status="skipped") == 1
    assert value(found, "ray_fer_dead_letters_total") == 2
    assert value(found, "ray_fer_commits_total") == 2
    assert value(found, "ray_fer_model_failures_total", replica="a") == 3
    assert value(found, "ray_fer_lag_records") == 13
    assert value(found, "ray_fer_lag_records", partition="1") == 5
    assert value(found, "ray_fer_batch_items_total", stage="faces") == 16
    assert value(found, "ray_fer_batches_total") == 2
    # Statuses that have not come yet are there: Prometheus sees their first one only as a rise from 0.
    assert {one.labels["status"] for one in found if one.name == "ray_fer_windows_total"} == {
        "ok", "no_face", "gap", "skipped", "failed",
    }  # fmt: skip


def test_latencies_are_a_histogram() -> None:
    statistics = WorkerStatistics()
    statistics.committed(turn(80, 100, 400, 700, 400_000, None))
    found = samples({"a": statistics})
    buckets = {one.labels["le"]: one.value for one in found if one.name == "ray_fer_latency_seconds_bucket"}
    assert (buckets["0.1"], buckets["0.25"], buckets["0.5"], buckets["1"]) == (2, 2, 3, 4)
    assert (buckets["300"], buckets["+Inf"]) == (4, 5)
    assert value(found, "ray_fer_latency_seconds_count") == 5
    assert value(found, "ray_fer_latency_seconds_sum") == pytest.approx(401.28)


def test_every_figure_has_a_metric() -> None:
    shown = {*COUNTERS, *GAUGES, "latency_buckets", "latency_sum", "streams"}
    assert shown == {field.name for field in fields(WorkerStatistics)}


def test_no_worker_is_told_too() -> None:
    assert value(samples({}), "ray_fer_workers") == 0
    assert "ray_fer_workers 0.0" in exposition({}).decode()


def test_the_total_is_the_sum() -> None:
    one, other = WorkerStatistics(commits=1, lag_records={0: 3}), WorkerStatistics(commits=2, lag_records={1: 4})
    one.committed(turn(50, 2500))
    other.committed(turn(50))
    added = total([one.summary(), other.summary()])
    assert (added["commits"], added["windows"]["ok"], added["lag_records"]) == (5, 3, {0: 3, 1: 4})
    assert (added["latency_buckets"]["0.1"], added["latency_buckets"]["3"]) == (2, 1)
    assert added["latency_sum"] == pytest.approx(2.6)
    assert total([]) == WorkerStatistics().summary()


def test_figures_of_a_stream() -> None:
    statistics = WorkerStatistics()
    for stream_id in ("s", "other", "s"):
        statistics.frame(stream_id, "kept", 6_200_000)
    statistics.committed(turn(450))  # its window ends at 5 s
    statistics.frame("last", "kept", 0)
    statistics.committed(turn(450))  # a prediction is no frame
    (last,) = statistics.newest_streams(1)
    assert (last["stream_id"], last["lag_s"]) == ("last", None)
    _, newest = statistics.newest_streams(2)
    assert (newest["stream_id"], newest["frames"], newest["latency_ms"]) == ("s", 2, 450)
    assert newest["lag_s"] == pytest.approx(1.2)
    assert newest["windows"]["ok"] == 2
    statistics.frame("s", "restart", 0)
    assert (statistics.streams["s"].restarts, statistics.streams["s"].lag_s()) == (1, None)
    assert [one["stream_id"] for one in statistics.newest_streams(5)] == ["s", "last", "other"]


def test_streams_heard_of_long_ago_are_forgotten() -> None:
    statistics = WorkerStatistics()
    for number in range(1200):
        statistics.frame(f"s{number}", "kept", 0)
        statistics.frame("often", "kept", 0)
    assert len(statistics.streams) == 1000
    assert statistics.streams["often"].frames == 1200
    assert "s0" not in statistics.streams


def test_a_table_that_is_read_is_not_the_one_that_is_written() -> None:
    statistics = WorkerStatistics()
    summary = statistics.summary()
    statistics.frame("s", "kept", 0)
    statistics.observe({0: 1}, [PartitionProgress(WindowConfig())], 0)
    assert (summary["frames"]["kept"], summary["lag_records"]) == (0, {})
