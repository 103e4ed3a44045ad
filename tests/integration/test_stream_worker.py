"""The stream worker on a broker: the same windows as `predict`, dead letters with reasons, restarts without repeats."""

from __future__ import annotations

import contextlib
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
from kafka.admin import ConfigResource, ConfigResourceType

from ray_fer.bundle import PACKAGED
from ray_fer.serving.catalogue import served
from ray_fer.serving.in_process import InProcess
from ray_fer.serving.inference import always, infer_windows
from ray_fer.serving.predict import predict_video
from ray_fer.streaming import intake, payload
from ray_fer.streaming.broker import EmbeddedBroker
from ray_fer.streaming.frame_message import FrameMessage
from ray_fer.streaming.freshness import Freshness
from ray_fer.streaming.kafka import BrokerError, admin, assign_all, check_broker, consumer, producer
from ray_fer.streaming.kafka_settings import KafkaSettings
from ray_fer.streaming.messages import MAX_FRAME_BYTES, CultureInfo, ModelInfo, Prediction, WindowInfo
from ray_fer.streaming.options import StreamOptions
from ray_fer.streaming.references import ReferencePolicy, StoreAwayError, fetch
from ray_fer.streaming.replay import rewind
from ray_fer.streaming.source import video_messages
from ray_fer.streaming.topics import create_topics
from ray_fer.streaming.windows import Window, WindowConfig
from ray_fer.streaming.worker import Inference, StreamWorker

CONFIG = WindowConfig(allowed_lateness=0.2, idle_timeout=1.5)
PACKAGED_ALONE = always(served(PACKAGED))


@pytest.fixture(params=["embedded", pytest.param("kafka", marks=pytest.mark.kafka)])
def settings(request: pytest.FixtureRequest) -> Iterator[KafkaSettings]:
    """Topics of its own on each of the two brokers."""
    run = uuid.uuid4().hex[:8]
    one = KafkaSettings(
        frames_topic=f"{run}-frames",
        predictions_topic=f"{run}-predictions",
        dead_letter_topic=f"{run}-dead",
        group=run,
        session_timeout_ms=2000,
        partitions=2,
    )
    with contextlib.ExitStack() as stack:
        if request.param == "embedded":
            one.bootstrap_servers = stack.enter_context(EmbeddedBroker()).bootstrap_servers
        else:
            one.bootstrap_servers = request.getfixturevalue("kafka")
        create_topics(one)
        yield one


def blind(windows: Sequence[Window]) -> Inference:
    """Says `no_face` of every window, at once."""
    return Inference(
        [
            Prediction(
                stream_id=w.stream_id,
                window=WindowInfo(
                    session=w.session, index=w.index, start_us=w.start_us, end_us=w.end_us, frames=w.frames, faces=0
                ),
                status="no_face",
                culture=CultureInfo(source="global_prior", weights={}),
                model=ModelInfo(name="blind", version="0"),
            )
            for w in windows
        ],
        [],
    )


@contextmanager
def running(
    settings: KafkaSettings,
    infer: Callable[[Sequence[Window]], Inference] = blind,
    options: StreamOptions | None = None,
) -> Iterator[StreamWorker]:
    worker = StreamWorker(settings, options or StreamOptions(windows=CONFIG), infer)
    thread = threading.Thread(target=worker.run)
    thread.start()
    try:
        yield worker
    finally:
        worker.stop()
        thread.join(timeout=30)
        assert not thread.is_alive()


def send(settings: KafkaSettings, messages: Sequence[FrameMessage]) -> None:
    writer = producer(settings)
    for message in messages:
        writer.send(settings.frames_topic, message.payload, message.key(), headers=message.headers())
    writer.flush()
    writer.close()


def read(settings: KafkaSettings, topic: str, count: int, timeout_s: float = 40) -> list:
    """The topic's records: at least `count`, and whatever else comes within a second."""
    reader = consumer(settings)
    assign_all(reader, topic)
    records: list = []
    deadline = time.monotonic() + timeout_s
    extra = None
    while time.monotonic() < deadline and (extra is None or time.monotonic() < extra):
        for batch in reader.poll(timeout_ms=200).values():
            records += batch
        if extra is None and len(records) >= count:
            extra = time.monotonic() + 1
    reader.close(autocommit=False)
    return records


def predictions_of(settings: KafkaSettings, count: int, timeout_s: float = 40) -> list[Prediction]:
    records = read(settings, settings.predictions_topic, count, timeout_s)
    return [Prediction.model_validate_json(record.value) for record in records]


def frames(jpeg: bytes, stream: str, seconds: Sequence[float], first: int = 0) -> list[FrameMessage]:
    return [
        FrameMessage(stream, round(second * 1e6), first + number, "image/jpeg", jpeg)
        for number, second in enumerate(seconds)
    ]


def tenths(start: float, end: float) -> list[float]:
    return [tenth / 10 for tenth in range(round(start * 10), round(end * 10))]


def test_the_stream_gives_what_predict_gives(settings: KafkaSettings, media: Path, happy_clip: Path) -> None:
    videos = [media / "single_face.mp4", media / "face_noface.mov", happy_clip]
    expected = {p.stream_id + str(p.window.index): p for video in videos for p in predict_video(PACKAGED, video)}
    with InProcess() as model, running(settings, lambda windows: infer_windows(model.stages, windows, PACKAGED_ALONE)):
        for video in videos:
            send(settings, list(video_messages(video, video.name)))
        got = predictions_of(settings, len(expected))
    assert len(got) == len(expected)
    for one in got:
        other = expected[one.stream_id + str(one.window.index)]
        # A session is named by an offset of the log, and a file has none.
        assert one.window == other.window.model_copy(update={"session": one.window.session})
        assert (one.status, one.expression) == (other.status, other.expression)
        assert one.probabilities == pytest.approx(other.probabilities, abs=1e-4)
        assert one.action_units == pytest.approx(other.action_units, abs=1e-4)
        assert one.latency_ms is not None
        assert one.latency_ms > 0


def test_many_streams_each_in_order(settings: KafkaSettings, jpeg: bytes) -> None:
    streams = [frames(jpeg, f"s{number}", tenths(0, 8)) for number in range(12)]
    with running(settings) as worker:
        send(settings, [message for together in zip(*streams, strict=True) for message in together])
        got = predictions_of(settings, 12 * 8)
    for number in range(12):
        own = [p.window.index for p in got if p.stream_id == f"s{number}"]
        assert own == list(range(8))
    assert sum(worker.statistics.frames.values()) == 12 * 80
    assert sum(worker.statistics.lag_records.values()) == 0


def test_bad_input_goes_to_the_dead_letter_topic_and_the_partition_goes_on(
    settings: KafkaSettings, jpeg: bytes
) -> None:
    good = frames(jpeg, "s", tenths(0, 7))
    bad = [
        (jpeg[:-30], good[0].headers(), "truncated JPEG"),
        (b"\xff\xd8\xffnot a picture\xff\xd9", frames(jpeg, "s", [7.05], first=900)[0].headers(), "not a JPEG or PNG"),
        (jpeg, [h for h in good[0].headers() if h[0] != "pts-us"], "'pts-us' is missing"),
        (
            jpeg,
            [("stream-id", b"s"), ("pts-us", b"1"), ("seq", b"1"), ("content-type", b"image/webp")],
            "not supported",
        ),
    ]
    with InProcess() as model, running(settings, lambda windows: infer_windows(model.stages, windows, PACKAGED_ALONE)):
        writer = producer(settings)
        send(settings, good)
        for value, headers, _ in bad:
            writer.send(settings.frames_topic, value, b"s", headers=headers)
        writer.flush()
        got = predictions_of(settings, 8)
        # Much later than anything still open, and not numbered as the first of a new session.
        send(settings, frames(jpeg, "s", [0.5], first=5))
        letters = read(settings, settings.dead_letter_topic, len(bad) + 1)
        writer.close()
    assert [p.window.index for p in got] == list(range(8))
    reasons = [dict(letter.headers)["error"].decode() for letter in letters]
    assert len(letters) == len(bad) + 1
    for value, headers, reason in bad:
        (letter,) = [one for one in letters if reason in dict(one.headers)["error"].decode()]
        assert letter.value == value
        assert letter.key == b"s"
        assert dict(letter.headers)["error-topic"] == settings.frames_topic.encode()
        assert set(dict(headers).items()) <= set(dict(letter.headers).items())
    assert sum("late" in reason for reason in reasons) == 1


def test_a_restarted_worker_goes_on_where_the_last_one_stopped(
    settings: KafkaSettings, jpeg: bytes, request: pytest.FixtureRequest
) -> None:
    with running(settings):
        send(settings, frames(jpeg, "s", tenths(0, 7)))
        first = predictions_of(settings, 2)
        assert {p.window.index for p in first} >= {0, 1}
    with running(settings) as worker:
        send(settings, frames(jpeg, "s", tenths(7, 12), first=70))
        got = predictions_of(settings, 12)
    assert worker.statistics.dead_letters == 0
    if "embedded" in request.node.name:
        # This broker gives no offset metadata back, so windows may come twice; still none is lost.
        assert {p.window.index for p in got} == set(range(12))
        return
    assert sorted(p.window.index for p in got) == list(range(12))
    # The windows that were open at the restart hold the frames from before it.
    assert {p.window.index: p.window.frames for p in got}[4] in (30, 50)


def test_a_slow_model_holds_the_stream_back_and_loses_nothing(settings: KafkaSettings, jpeg: bytes) -> None:
    def slow(windows: Sequence[Window]) -> Inference:
        time.sleep(0.05 * len(windows))
        return blind(windows)

    streams = [frames(jpeg, f"s{number}", tenths(0, 10)) for number in range(10)]
    with running(settings, slow) as worker:
        send(settings, [message for stream in streams for message in stream])
        got = predictions_of(settings, 100)
    assert sorted((p.stream_id, p.window.index) for p in got) == sorted(
        (f"s{n}", k) for n in range(10) for k in range(10)
    )
    # Full windows hold all of their frames: none was closed early because the worker was busy.
    assert {p.window.frames for p in got if p.window.index <= 5} == {50}
    assert worker.statistics.dead_letters == 0


def test_windows_that_are_too_old_are_skipped_where_the_newest_matter(settings: KafkaSettings, jpeg: bytes) -> None:
    def slow(windows: Sequence[Window]) -> Inference:
        looked_at = [window for window in windows if not window.skipped]
        time.sleep(0.3 * len(looked_at))
        answer = blind(windows)
        for prediction, window in zip(answer.predictions, windows, strict=True):
            prediction.status = "skipped" if window.skipped else "no_face"
        return answer

    options = StreamOptions(
        windows=CONFIG, freshness=Freshness(policy="freshest", max_staleness=2), windows_per_turn=4
    )  # fmt: skip
    with running(settings, slow, options) as worker:
        send(settings, frames(jpeg, "s", tenths(0, 40)))
        got = predictions_of(settings, 40, timeout_s=60)
    assert [p.window.index for p in got] == list(range(40))
    skipped = sum(p.status == "skipped" for p in got)
    assert 0 < skipped < 40
    assert worker.statistics.windows["skipped"] == worker.statistics.streams["s"].windows["skipped"] == skipped


@pytest.mark.kafka
@pytest.mark.parametrize("settings", ["kafka"], indirect=True)  # the embedded broker does not describe groups
def test_a_stopped_group_can_be_sent_back(settings: KafkaSettings, jpeg: bytes) -> None:
    with running(settings):
        send(settings, frames(jpeg, "s", tenths(0, 7)))
        predictions_of(settings, 7)
        with pytest.raises(BrokerError, match="stop its workers"):
            rewind(settings, "earliest")
    offsets = rewind(settings, 20)
    assert sorted(offsets.values()) == [0, 20]
    with running(settings) as worker:
        got = predictions_of(settings, 14)
    assert worker.statistics.dead_letters == 0
    assert sorted((p.window.session, p.window.index) for p in got) == [(0, k) for k in range(7)] + [
        (20, k) for k in range(7)
    ]
    assert {p.window.frames for p in got if (p.window.session, p.window.index) == (20, 0)} == {30}


def test_large_frames_pass(settings: KafkaSettings, jpeg: bytes) -> None:
    """A frame near the limit of 8 MiB goes through producer, topic and consumer: their limits agree."""
    large = jpeg[:-2] + b"\0" * (MAX_FRAME_BYTES - len(jpeg)) + jpeg[-2:]
    assert len(large) == MAX_FRAME_BYTES
    with running(settings) as worker:
        send(settings, [FrameMessage("s", 0, 0, "image/jpeg", large)])
        (only,) = predictions_of(settings, 1)
    assert only.window.frames == 1
    assert worker.statistics.dead_letters == 0


@pytest.mark.kafka
@pytest.mark.parametrize("settings", ["kafka"], indirect=True)
@pytest.mark.parametrize("guarantee", ["exactly_once", "at_least_once"])
def test_what_is_too_large_for_the_dead_letter_topic_goes_there_without_its_value(
    settings: KafkaSettings, jpeg: bytes, guarantee: str
) -> None:
    settings.processing_guarantee = guarantee
    limit = {"max.message.bytes": "50000"}
    with admin(settings) as client:
        client.alter_configs([ConfigResource(ConfigResourceType.TOPIC, settings.dead_letter_topic, limit)])
    headers = frames(jpeg, "s", [0])[0].headers()
    long = [*headers, ("note", b"x" * 100_000)]
    bad = [
        (b"small", headers),
        (b"no frame" * 10_000, headers),
        (b"no frame", long),
        (b"no frame" * 1_000_000, headers),
    ]
    with running(settings) as one:
        writer = producer(settings)
        for value, own in bad:
            writer.send(settings.frames_topic, value, b"s", headers=own)
        writer.flush()
        writer.close()
        send(settings, frames(jpeg, "s", tenths(0, 7)))
        got = predictions_of(settings, 7)
        letters = read(settings, settings.dead_letter_topic, 4)
    assert {p.window.index for p in got} == set(range(7))
    found = {int(dict(letter.headers)["error-offset"]): letter for letter in letters}
    for offset, told in enumerate(
        ["wrong signature", "its 80000 bytes are left out", "nor are its headers and key here", "8000000"]
    ):
        letter = found[offset]
        own = dict(letter.headers)
        assert told in own["error"].decode()
        assert own["error-topic"] == settings.frames_topic.encode()
        assert letter.value == (b"small" if offset == 0 else None)
        assert ("stream-id" in own) == (offset != 2)
    if guarantee == "exactly_once":
        assert len(letters) == 4
    assert one.statistics.dead_letters == 4


@pytest.mark.kafka
@pytest.mark.parametrize("settings", ["kafka"], indirect=True)
def test_a_record_of_nothing_is_a_dead_letter(settings: KafkaSettings) -> None:
    """Neither key nor value nor, in a header, content: more than kafka-python sends, and any other client may."""
    writer = producer(settings, value_serializer=lambda value: None)
    writer.send(settings.frames_topic, "nothing")
    writer.flush()
    writer.close()
    with running(settings):
        (letter,) = read(settings, settings.dead_letter_topic, 1)
    assert b"content-type" in dict(letter.headers)["error"]


@pytest.mark.parametrize("segments", [False, True])
def test_a_store_that_is_away_is_waited_for(
    settings: KafkaSettings, media: Path, tmp_path: Path, jpeg: bytes, monkeypatch: pytest.MonkeyPatch, segments: bool
) -> None:
    """Images are fetched by the face stage, segments when their record is read; in the meantime other streams go on."""
    asked: list[str] = []

    def away_at_first(uri: str, policy: ReferencePolicy) -> bytes:
        asked.append(uri)
        if len(asked) <= 4:
            raise StoreAwayError(f"{uri}: the store does not answer")
        return fetch(uri, policy)

    monkeypatch.setattr(payload, "fetch", away_at_first)
    monkeypatch.setattr(intake, "_STORE_WAIT_S", 0.5)
    uri = f"file://{tmp_path}/a".encode()
    if segments:
        (tmp_path / "a").write_bytes((media / "single_face.mp4").read_bytes())
        sent = [
            FrameMessage("s", number * 3_000_000, number * 72, "text/uri-list", uri, "video/mp4")
            for number in (0, 1, 2)
        ]
    else:
        (tmp_path / "a").write_bytes(jpeg)
        sent = [FrameMessage("s", n * 100_000, n, "text/uri-list", uri, "image/jpeg") for n in range(70)]
    options = StreamOptions(windows=CONFIG, references=ReferencePolicy(prefixes=[str(tmp_path)]))
    with (
        InProcess(options.references) as model,
        running(settings, lambda windows: infer_windows(model.stages, windows, PACKAGED_ALONE), options) as one,
    ):
        send(settings, sent)
        got = predictions_of(settings, 7)
    assert len(asked) > 4
    assert [p.window.index for p in got][:7] == list(range(7))
    assert {p.status for p in got} <= {"ok", "no_face"}
    assert one.statistics.dead_letters == 0


def test_a_broker_that_is_gone_is_told_quickly() -> None:
    with EmbeddedBroker() as broker:
        check_broker(broker.bootstrap_servers)
        address = broker.bootstrap_servers
    with pytest.raises(BrokerError, match="no Kafka broker at"):
        check_broker(address)
