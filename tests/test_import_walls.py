"""The three walls of the design, kept by reading the imports of every module."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "ray_fer"


def imports_of(path: Path) -> set[str]:
    """Full names of all modules that a file imports, anywhere in it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide which room a module is in"
            found.add(node.module or "")
    return found


def files_below(room: str) -> list[Path]:
    files = sorted((PACKAGE / room).rglob("*.py"))
    assert files, f"no module in {room}"
    return files


def roots(names: set[str]) -> set[str]:
    return {name.split(".")[0] for name in names}


@pytest.mark.parametrize("path", files_below("models"), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_models_run_on_a_box_with_torch_alone(path: Path) -> None:
    assert not roots(imports_of(path)) & {"ray", "kafka", "mediapipe", "cv2", "av", "feat"}
    ours = {name for name in imports_of(path) if name.startswith("ray_fer")}
    assert all(name.startswith(("ray_fer.models", "ray_fer.labels")) for name in ours), ours


@pytest.mark.parametrize("path", files_below("streaming"), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_streaming_imports_no_ray(path: Path) -> None:
    assert "ray" not in roots(imports_of(path))
    ours = {name for name in imports_of(path) if name.startswith("ray_fer")}
    assert all(name.startswith(("ray_fer.streaming", "ray_fer.video")) for name in ours), ours


def test_labels_import_nothing() -> None:
    assert imports_of(PACKAGE / "labels.py") <= {"__future__"}


ORDER = {
    "video": {"labels", "video"},
    "action_units": {"labels", "video", "action_units"},
    "datasets": {"labels", "storage", "video", "action_units", "datasets"},
    "preprocessing": {"labels", "process_use", "storage", "video", "action_units", "datasets", "preprocessing"},
}


@pytest.mark.parametrize("room", ORDER)
def test_imports_go_one_way(room: str) -> None:
    for path in files_below(room):
        used = {name.split(".")[1] for name in imports_of(path) if name.startswith("ray_fer.")}
        assert used <= ORDER[room], f"{path} imports {used - ORDER[room]}"


@pytest.mark.parametrize(
    ("module", "banned"),
    [
        ("ray_fer.models", {"ray", "kafka", "mediapipe", "timm", "transformers", "torchvision"}),
        ("ray_fer.streaming.worker", {"ray", "torch"}),
        ("ray_fer.serving.predict", {"ray", "mediapipe"}),
        ("ray_fer.cli", {"ray", "torch", "kafka", "cv2"}),
    ],
)
def test_importing_does_not_load(module: str, banned: set[str]) -> None:
    """What the import statements cannot show: that nothing heavy comes in by way of another module."""
    code = f"import sys, {module}; print(','.join(sorted({banned!r} & set(sys.modules))))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == ""
