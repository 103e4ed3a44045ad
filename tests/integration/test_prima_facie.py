"""The prima facie study on a store with motion, as a user runs it: the job, and the table of the paper."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import torch
import torchvision

from tests.clip_stores import colour_store, joined_store
from tests.integration.conftest import REPOSITORY


def run(job: str, *words: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(REPOSITORY / "jobs" / f"{job}.py"), *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=REPOSITORY)


def test_the_study_writes_its_table_and_picture(tmp_path: Path) -> None:
    clips, classes = {"train": 24}, ("Negative", "Positive", "Surprise")
    store = joined_store([
        colour_store(
            tmp_path / name, clips, classes=classes, cultures=("Asian", "Non-Asian"), subjects=4, flow=True,
            culture_of_subject=True, dataset=name, prefix=name,
        )
        for name in ("casme2", "samm")
    ])  # fmt: skip
    weights = tmp_path / "resnet18.pth"
    torch.manual_seed(0)
    torch.save(torchvision.models.resnet18().state_dict(), weights)
    options = ["--output", tmp_path / "study", "--subjects", "4", "--draws", "3", "--trees", "5"]
    done = run("prima_facie", store, "--pretrained", weights, *options)
    assert done.returncode == 0, done.stderr
    assert "| 2 and 2, mixed |" in done.stdout
    content = json.loads((tmp_path / "study" / "prima-facie.json").read_text())
    assert (content["draws"], content["subjects"]) == (3, {"Asian": 4, "Non-Asian": 4})
    assert content["clips"] == {"Asian": 24, "Non-Asian": 24}
    assert content["rows"]["Asian"]["Average"]["mean"] > 0.9, "a stripe tells the labels apart"
    assert (tmp_path / "study" / "prima-facie.png").read_bytes().startswith(b"\x89PNG")

    faces = colour_store(tmp_path / "faces", {"train": 6}, classes=classes)
    refused = run("prima_facie", faces, *options)
    assert refused.returncode == 2
    assert "keeps no optical flow" in refused.stderr
    assert "Traceback" not in refused.stderr

    settings = [f"pretrained={weights}", "subjects=4", "draws=3", "trees=5"]
    words = [word for one in settings for word in ("--set", one)]
    made = run("reproduce", "ethnicmer-table-4", "--data", store, "-o", tmp_path / "repro", *words)
    assert made.returncode == 0, made.stderr
    assert "3 of 3 draws" in made.stderr
    cells = json.loads((tmp_path / "repro" / "ethnicmer-table-4.json").read_text())["blocks"][0]["rows"]
    assert [row["Row"]["text"] for row in cells] == ["Asian to Asian", "Non-Asian to Non-Asian", "Mixed to Mixed"]
    for row, figures in zip(cells, content["rows"].values(), strict=True):
        average = figures["Average"]
        here = row["Average here"]
        assert [here[name] for name in ("value", "low", "high")] == [average["mean"], *average["interval"]]
        assert row["Average difference"]["value"] == average["mean"] - row["Average published"]["value"]
    assert {path.suffix for path in (tmp_path / "repro").iterdir()} == {".md", ".tex", ".csv", ".json"}
