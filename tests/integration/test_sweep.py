"""`ray-fer train --sweep` on generated stills of three datasets, as a user runs it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.clip_stores import colour_store
from tests.integration.conftest import REPOSITORY

TINY = (
    "model_config_.width=8", "model_config_.blocks=[2, 2, 2, 2]", "model_config_.momentum=0.9", "transform.canvas=32",
    "transform.size=32", "batch_size=16", "optimizer.lr=1e-3", "before.optimizer.lr=0.02", "before.epochs=2",
    "epochs=1", "workers=0", "select=last", "early_stopping=null",
)  # fmt: skip


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """EiLA, SFEW and FER2013 as shards of one store; EiLA's people are Black and White."""
    folder = tmp_path_factory.mktemp("stills")
    sizes = {"eila": {"train": 28, "val": 14, "test": 28}, "sfew": {"train": 28, "val": 14},
             "fer2013": {"train": 28, "test": 14}}  # fmt: skip
    parts = [
        colour_store(
            folder / name, clips, frames=1, dataset=name, prefix=f"{name}-", cultures=("Black", "White"), shard_rows=70
        )
        for name, clips in sizes.items()
    ]
    for number, part in enumerate(parts[1:], start=1):
        shutil.copy(part / "clips" / "shard-000000.parquet", parts[0] / "clips" / f"shard-{number:06d}.parquet")
    return parts[0]


def run(*words: str | Path) -> subprocess.CompletedProcess[str]:
    job = str(REPOSITORY / "jobs" / "train_multidataset.py")
    settings = [word for one in TINY for word in ("--set", one)]
    command = [sys.executable, job, "--sweep", "--recipe", "multidataset", *settings, *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, timeout=800, cwd=REPOSITORY)


def test_one_command_writes_all_rows_and_goes_on_after_an_interruption(store: Path, tmp_path: Path) -> None:
    output = tmp_path / "sweep"
    done = run("--store", store, "--output", output)
    assert done.returncode == 0, done.stderr[-3000:]
    content = json.loads((output / "sweep.json").read_text())
    assert list(content["rows"]) == [
        "EiLA only", "SFEW only", "SFEW + 10% EiLA", "SFEW + 30% EiLA", "SFEW + 50% EiLA", "SFEW + 100% EiLA",
        "FER2013 only", "FER2013 + 10% EiLA", "FER2013 + 30% EiLA", "FER2013 + 50% EiLA", "FER2013 + 100% EiLA",
    ]  # fmt: skip
    assert all(len(runs) == 1 and runs[0]["clips"]["test"] == 28 for runs in content["rows"].values())
    assert content["rows"]["SFEW + 50% EiLA"][0]["clips"]["train"] == 28 + 14
    assert set(content["rows"]["EiLA only"][0]["groups"]) == {"Black", "White"}
    assert "| FER2013 + 100% EiLA | 56 | 28 |" in (output / "sweep.md").read_text()
    assert (output / "sweep.png").read_bytes().startswith(b"\x89PNG")

    again = run("--store", store, "--output", output)
    assert again.returncode == 0
    assert again.stderr.count("finished before") == 11
    assert "to do" not in again.stderr
    wrong = run("--output", tmp_path / "other")
    assert wrong.returncode == 2
    assert "--sweep needs --store" in wrong.stderr
