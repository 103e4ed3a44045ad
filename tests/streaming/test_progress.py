"""What is committed is enough to go on from, and never more than may be forgotten."""

from __future__ import annotations

import pytest

from ray_fer.streaming.progress import PartitionProgress, restore
from ray_fer.streaming.windows import BufferedFrame, WindowConfig

CONFIG = WindowConfig(size=2, stride=1, allowed_lateness=0)
S = 1_000_000


def fill(progress: PartitionProgress, stream_id: str, seconds: list[int]) -> list[int]:
    """Feed frames at whole seconds, offsets counting on; returns the indices of the windows that closed."""
    closed = []
    for second in seconds:
        windows = progress.windows_of(stream_id, CONFIG)
        windows.add(BufferedFrame(second * S, second, b"", offset=progress.handled))
        progress.handled += 1
        closed += [window.index for window in windows.ready()]
    return closed


def test_commit_never_passes_a_frame_that_is_needed() -> None:
    progress = PartitionProgress(handled=100)
    assert fill(progress, "a", [0, 1, 2, 3]) == [0, 1]
    assert progress.commit_offset() == 102  # window 2 needs the frame at second 2
    fill(progress, "b", [0])
    assert progress.commit_offset() == 102


def test_replay_gives_the_rest_and_nothing_twice() -> None:
    seconds = list(range(8))
    whole = PartitionProgress()
    all_windows = fill(whole, "a", seconds)
    for crash in range(1, len(seconds)):
        before = PartitionProgress()
        first = fill(before, "a", seconds[:crash])
        after = restore(before.commit_offset(), before.metadata())
        assert after.handled == crash
        handled, after.handled = after.handled, before.commit_offset()
        second = fill(after, "a", seconds[before.commit_offset() :])
        assert first + second == all_windows, f"crash after {crash} frames"
        assert after.handled >= handled


def test_a_closed_stream_is_remembered() -> None:
    progress = PartitionProgress()
    fill(progress, "a", [0])
    assert [w.index for w in progress.streams["a"].flush()] == [0]
    progress.close("a")
    assert restore(0, progress.metadata()).next_index == {"a": 1}
    assert progress.windows_of("a", CONFIG).next_index == 1


def test_metadata_stays_within_the_brokers_limit() -> None:
    progress = PartitionProgress()
    progress.next_index = {f"camera-{number:06d}": number for number in range(1000)}
    text = progress.metadata()
    assert len(text) <= 4000
    assert "camera-000999" in text
    assert "camera-000000" not in text


@pytest.mark.parametrize("metadata", ["", None, "{", "[]", '{"handled": "x", "next": {}}', '{"handled": 3}', "hello"])
def test_foreign_metadata_is_ignored(metadata: str | None) -> None:
    progress = restore(5, metadata)
    assert (progress.handled, progress.next_index) == (5, {})
