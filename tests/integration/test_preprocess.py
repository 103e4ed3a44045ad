"""Preprocessing on a real Ray: bad inputs, what is killed, what is resumed, and an object store."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psutil
import pyarrow as pa
import pyarrow.dataset as pads
import pyarrow.parquet as pq
import pytest
import ray

from ray_fer import storage
from ray_fer.datasets.manifest import Clip, read_manifest, write_manifest
from ray_fer.datasets.synthfer import generate
from ray_fer.datasets.synthfer.plan import SynthOptions, plan
from ray_fer.preprocessing.aus import extract_aus
from ray_fer.preprocessing.clips import preprocess, read_store
from ray_fer.preprocessing.journal import Processor
from ray_fer.preprocessing.runner import run_shards
from ray_fer.preprocessing.shards import Failure, Row, plan_shards, read_written, shard_name
from ray_fer.preprocessing.store import read_failures
from ray_fer.serving.local_ray import ray_session, simulated_cluster
from tests.corrupt_media import make_corrupt
from tests.s3_server import S3Server

SHARD = 4


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """48 clips of SynthFER."""
    root = tmp_path_factory.mktemp("synthfer")
    return generate(plan({"train": 48}, SynthOptions(seed=11)), root)


@pytest.fixture(scope="module")
def undisturbed(manifest: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Files of the clip store and the AU table that nobody disturbed."""
    root = tmp_path_factory.mktemp("undisturbed")
    with ray_session():
        preprocess(manifest, root / "clips", shard_rows=SHARD)
        extract_aus(root / "clips", root / "aus")
    return contents(root)


def contents(root: Path) -> dict[str, bytes]:
    return {str(file.relative_to(root)): file.read_bytes() for file in sorted(root.rglob("*")) if file.is_file()}


def of_clips(files: dict[str, bytes]) -> dict[str, bytes]:
    return {name: data for name, data in files.items() if name.startswith("clips")}


def wait_for(happened: Callable[[], bool], what: str, timeout_s: float = 120) -> None:
    until = time.monotonic() + timeout_s
    while not happened():
        assert time.monotonic() < until, f"waited {timeout_s} s for {what}"
        time.sleep(0.02)


def shards_below(folder: Path) -> int:
    return len(list((folder / "clips").glob("shard-*.parquet")))


def command(manifest: Path, store: Path, *words: str) -> list[str]:
    return ["ray-fer", "preprocess", str(manifest), str(store), "--shard-clips", str(SHARD), *words]


def run(words: list[str], environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(words, env=environment, capture_output=True, text=True, timeout=300)


def test_a_killed_driver_is_resumed_to_the_byte(
    manifest: Path, undisturbed: dict[str, bytes], tmp_path: Path, environment: dict[str, str]
) -> None:
    store = tmp_path / "clips"
    driver = subprocess.Popen(
        command(manifest, store), env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    wait_for(lambda: shards_below(store) >= 3, "three shards")
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    finished = shards_below(store)
    assert 3 <= finished < 12
    wait_for(lambda: not users_of(store), "the driver's workers to end")

    refused = run(command(manifest, store), environment)
    assert refused.returncode == 2
    assert "of 12 shards of this input; go on with --resume" in refused.stderr

    kept = {file: file.stat().st_mtime_ns for file in (store / "clips").glob("shard-*.parquet")}
    resumed = run(command(manifest, store, "--resume", "--json"), environment)
    assert resumed.returncode == 0, resumed.stderr
    result = json.loads(resumed.stdout)
    assert (result["usable"], result["failed"], result["shards"]) == (48, [], 12)
    assert result["made"] == 12 - len(kept)
    assert {file: file.stat().st_mtime_ns for file in kept} == kept
    assert contents(tmp_path) == of_clips(undisturbed)

    before = {file: file.stat().st_mtime_ns for file in store.rglob("*.parquet") if "shard" in file.name}
    again = run(command(manifest, store), environment)
    assert again.returncode == 0, again.stderr
    assert "complete and its input unchanged: nothing was done" in again.stdout
    assert {file: file.stat().st_mtime_ns for file in before} == before


def users_of(folder: Path) -> list[int]:
    """Processes that have a file below a folder open."""
    found = []
    for process in psutil.process_iter():
        try:
            if any(str(folder) in opened.path for opened in process.open_files()):
                found.append(process.pid)
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return found


def workers() -> list[psutil.Process]:
    """Ray workers of this process's Ray that are doing a task."""
    children = psutil.Process().children(recursive=True)
    found = []
    for child in children:
        try:
            if "_ShardTask" in child.name() or "Map" in " ".join(child.cmdline()[:1]):
                found.append(child)
        except psutil.NoSuchProcess:
            continue
    return found


def test_a_killed_worker_loses_nothing(manifest: Path, undisturbed: dict[str, bytes], tmp_path: Path) -> None:
    killed = []

    def kill_one(now: Any) -> None:
        if now.shards in (2, 5) and len(killed) < 2:
            busy = workers()
            assert busy, "no worker to kill"
            busy[0].kill()
            killed.append(busy[0].pid)

    with ray_session():
        summary = preprocess(manifest, tmp_path / "clips", shard_rows=SHARD, progress=kill_one)
    assert len(killed) == 2
    assert (summary.usable, summary.failed, summary.made) == (48, [], 12)
    assert contents(tmp_path) == of_clips(undisturbed)


def test_a_killed_node_loses_nothing(manifest: Path, undisturbed: dict[str, bytes], tmp_path: Path) -> None:
    with simulated_cluster(3, cpus=1) as cluster:
        nodes = list(cluster.worker_nodes)
        assert ray.cluster_resources()["CPU"] == 3

        def kill_node(now: Any) -> None:
            if now.shards == 3 and len(nodes) == 2:
                cluster.remove_node(nodes.pop(), allow_graceful=False)

        summary = preprocess(manifest, tmp_path / "clips", shard_rows=SHARD, progress=kill_node)
        assert len(nodes) == 1
        deadline = time.monotonic() + 60
        while sum(node["Alive"] for node in ray.nodes()) > 2 and time.monotonic() < deadline:
            time.sleep(0.5)  # Ray notices a death some seconds later, and the shards may be done before
        assert sum(node["Alive"] for node in ray.nodes()) == 2
    assert (summary.usable, summary.failed) == (48, [])
    assert contents(tmp_path) == of_clips(undisturbed)


def test_every_kind_of_bad_input_is_reported_and_the_rest_is_complete(manifest: Path, tmp_path: Path) -> None:
    bad = make_corrupt(tmp_path / "bad")
    assert len(bad) >= 30
    good = [Clip(**row) for row in read_manifest(manifest)[:6]]
    clips = list(good)
    for number, one in enumerate(bad):  # between the good ones, so that they would suffer together
        row = replace(good[0], clip_id=f"bad-{one.name}", **one.row())
        clips.insert(number % 6 * 2, row)
    listed = write_manifest(clips, tmp_path / "manifest.parquet")
    with ray_session():
        summary = preprocess(listed, tmp_path / "clips", shard_rows=SHARD)
    assert summary.usable == 6
    assert {failure.clip_id for failure in summary.failed} == {f"bad-{one.name}" for one in bad}
    assert all(failure.reason and failure.path for failure in summary.failed)
    assert read_failures(tmp_path / "clips") == summary.failed
    table = pq.read_table(tmp_path / "clips" / "failures.parquet").to_pylist()
    assert [row["clip_id"] for row in table] == [failure.clip_id for failure in summary.failed]
    kept = [row["clip_id"] for row in read_store(tmp_path / "clips", ["clip_id"]).to_pylist()]
    assert kept == [clip.clip_id for clip in clips if not clip.clip_id.startswith("bad-")]  # in the manifest's order


def test_from_and_to_an_object_store(manifest: Path, undisturbed: dict[str, bytes], tmp_path: Path) -> None:
    root = manifest.parent
    with S3Server() as server:
        bucket = server.bucket_url("faces")
        for file in [manifest, *(root / "videos").glob("*.mp4")]:
            storage.write_bytes(storage.join(bucket, str(file.relative_to(root))), file.read_bytes())
        rows = [Clip(**row | {"path": f"videos/{Path(row['path']).name}"}) for row in read_manifest(manifest)]
        rows.append(replace(rows[0], clip_id="absent", path="videos/absent.mp4"))
        local = write_manifest(rows, tmp_path / "manifest.parquet")
        storage.write_bytes(storage.join(bucket, "manifest.parquet"), local.read_bytes())
        clips, aus = storage.join(bucket, "out", "clips"), storage.join(bucket, "out", "aus")
        with ray_session():
            summary = preprocess(bucket, clips, shard_rows=SHARD)
            assert (summary.usable, [failure.clip_id for failure in summary.failed]) == (48, ["absent"])
            assert "no such file" in summary.failed[0].reason
            assert preprocess(bucket, clips).made == 0
            assert extract_aus(clips, aus).usable == 48
            with pytest.raises(FileExistsError, match="is a clip store and not an AU table"):
                extract_aus(clips, clips)
            with pytest.raises(FileNotFoundError, match="no such clip store; make one with"):
                extract_aus(storage.join(bucket, "out"), aus)
        table = read_store(clips, ["clip_id", "frames"])
    assert table.num_rows == 48
    with pa.BufferReader(undisturbed["clips/clips/shard-000000.parquet"]) as file:
        first = pq.read_table(file, columns=["frames"])
    assert table.column("frames")[:4].to_pylist() == first.column("frames").to_pylist()


@dataclass(frozen=True)
class Deadly:
    """Work that ends its process, as a decoder with a defect does, at every row whose `kill` is set."""

    @contextmanager
    def open(self) -> Iterator[Processor]:
        yield DeadlyProcessor()


class DeadlyProcessor:
    schema = pa.schema([pa.field("clip_id", pa.string())])

    def __call__(self, rows: Any) -> Iterator[Row | Failure]:
        for row in rows:
            if row["kill"]:
                os.kill(os.getpid(), signal.SIGKILL)
            yield {"clip_id": row["clip_id"]}


def test_action_units_of_whole_videos(media: Path, tmp_path: Path, environment: dict[str, str]) -> None:
    done = run(["ray-fer", "aus", str(media / "single_face.mp4"), str(tmp_path / "frames"), "--json"], environment)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["usable"] == 72
    table = pads.dataset(tmp_path / "frames" / "frames").to_table(columns=["frame", "face_found", "AU12"])
    assert table.column("frame").to_pylist() == list(range(72))
    assert all(table.column("face_found").to_pylist())
    refused = run(["ray-fer", "aus", str(tmp_path / "typo"), str(tmp_path / "other")], environment)
    assert refused.returncode == 2
    assert "no such clip store, video or folder of videos" in refused.stderr


def test_a_file_that_kills_its_reader_costs_only_itself(tmp_path: Path) -> None:
    rows = [{"clip_id": f"c{n}", "path": f"/c{n}.mp4", "kill": n in (1, 6)} for n in range(8)]
    shards = plan_shards(rows, 4, "", [""] * 8)
    with ray_session():
        assert run_shards(str(tmp_path), shards, {}, Deadly()) == 2
    written = [read_written(str(tmp_path), number) for number in (0, 1)]
    assert [[failure.clip_id for failure in one.failures] for one in written if one] == [["c1"], ["c6"]]
    assert all("process died" in one.failures[0].reason for one in written if one)
    assert pads.dataset(tmp_path).to_table().column("clip_id").to_pylist() == ["c0", "c2", "c3", "c4", "c5", "c7"]
    assert sorted(file.name for file in tmp_path.iterdir()) == [shard_name(0), shard_name(1)]
