"""jobs/prima_facie.py on a store with motion, as a user runs it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import torch
import torchvision

from tests.clip_stores import colour_store
from tests.integration.conftest import REPOSITORY


def run(*words: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(REPOSITORY / "jobs" / "prima_facie.py"), *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=REPOSITORY)


def test_the_study_writes_its_table_and_picture(tmp_path: Path) -> None:
    clips, classes = {"train": 48}, ("Negative", "Positive", "Surprise")
    store = colour_store(
        tmp_path / "store", clips, classes=classes, cultures=("Asian", "Non-Asian"), subjects=8, flow=True,
        culture_of_subject=True,
    )  # fmt: skip
    weights = tmp_path / "resnet18.pth"
    torch.manual_seed(0)
    torch.save(torchvision.models.resnet18().state_dict(), weights)
    options = ["--output", tmp_path / "study", "--subjects", "4", "--draws", "3", "--trees", "5"]
    done = run(store, "--pretrained", weights, *options)
    assert done.returncode == 0, done.stderr
    assert "| 2 and 2, mixed |" in done.stdout
    content = json.loads((tmp_path / "study" / "prima-facie.json").read_text())
    assert (content["draws"], content["subjects"]) == (3, {"Asian": 4, "Non-Asian": 4})
    assert content["clips"] == {"Asian": 24, "Non-Asian": 24}
    assert content["rows"]["Asian"]["Average"]["mean"] > 0.9, "a stripe tells the labels apart"
    assert (tmp_path / "study" / "prima-facie.png").read_bytes().startswith(b"\x89PNG")

    faces = colour_store(tmp_path / "faces", {"train": 6}, classes=classes)
    refused = run(faces, *options)
    assert refused.returncode == 2
    assert "keeps no optical flow" in refused.stderr
    assert "Traceback" not in refused.stderr
