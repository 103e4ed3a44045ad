"""A trained model on disk: a folder with config.json, model.safetensors, priors.json, metrics.json and README.md.

Never a pickle: weights are safetensors, everything else is JSON, and the configuration is checked on load.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from ray_fer.models import create
from ray_fer.models.transform import TransformConfig

FORMAT = 1
PACKAGED = Path(__file__).parent / "bundles" / "cafer-synthfer"
"""The small CA-FER model that ships with the package."""


class BundleError(ValueError):
    """A bundle that cannot be used; the message names the file and what is wrong."""


class BundleConfig(BaseModel):
    """config.json."""

    model_config = ConfigDict(extra="forbid", protected_namespaces=())

    format: int = FORMAT
    name: str
    version: str
    model: str
    model_config_: dict[str, Any]
    classes: list[str]
    cultures: list[str]
    preprocessing: TransformConfig
    recipe: dict[str, Any] | None = None
    """How it was trained (`ray_fer.training.recipe.Recipe`), to be read by people."""


@dataclass
class Bundle:
    """A loaded bundle: configuration, the model in eval mode on the CPU, and its recorded metrics."""

    path: Path
    config: BundleConfig
    model: nn.Module
    metrics: dict[str, Any]


def save_bundle(
    path: str | Path,
    config: BundleConfig,
    model: nn.Module,
    metrics: dict[str, Any],
    priors: dict[str, Any] | None,
    card: str,
) -> Path:
    """Write a bundle folder (made if missing). `card` is the model card, in Markdown."""
    path = Path(path)
    path.mkdir(parents=True, exist_ok=True)
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    save_file(state, str(path / "model.safetensors"))
    (path / "config.json").write_text(config.model_dump_json(indent=1) + "\n")
    (path / "priors.json").write_text(json.dumps(priors, indent=1) + "\n")
    (path / "metrics.json").write_text(json.dumps(metrics, indent=1) + "\n")
    (path / "README.md").write_text(card)
    return path


def read_config(path: str | Path) -> BundleConfig:
    """Read what a bundle is, and not its weights. Raises BundleError that names the missing or wrong file."""
    path = Path(path)
    if not path.is_dir():
        raise BundleError(f"{path}: no such bundle; train one with `ray-fer train` or `ray-fer demo --train`")
    config_file, weights = path / "config.json", path / "model.safetensors"
    for file in (config_file, weights):
        if not file.is_file():
            raise BundleError(f"{path} is not a bundle: {file.name} is missing")
    try:
        config = BundleConfig.model_validate_json(config_file.read_text())
    except (ValidationError, UnicodeDecodeError) as error:
        raise BundleError(f"{config_file}: {_first_line(error)}") from error
    if config.format != FORMAT:
        raise BundleError(f"{config_file}: format {config.format} is not supported (expected {FORMAT}); update ray_fer")
    return config


def release(path: str | Path) -> str:
    """What tells a bundle from every other: its version, and eight digits of the SHA-256 of configuration and weights.

    Written as `0.1.0+1f2e3d4c`. Raises BundleError.
    """
    path = Path(path)
    version = read_config(path).version
    digest = hashlib.sha256((path / "config.json").read_bytes())
    with (path / "model.safetensors").open("rb") as file:
        digest.update(hashlib.file_digest(file, "sha256").digest())
    return f"{version}+{digest.hexdigest()[:8]}"


def load_bundle(path: str | Path) -> Bundle:
    """Load a bundle. Raises BundleError that names the missing or wrong file."""
    path = Path(path)
    config = read_config(path)
    config_file, weights = path / "config.json", path / "model.safetensors"
    try:
        model = create(config.model, **config.model_config_)
    except (TypeError, ValueError) as error:
        raise BundleError(f"{config_file}: {error}") from error
    try:
        model.load_state_dict(load_file(str(weights)))
    except (SafetensorError, RuntimeError) as error:
        raise BundleError(f"{weights} does not fit config.json: {_first_line(error)}") from error
    metrics_file = path / "metrics.json"
    metrics = json.loads(metrics_file.read_text()) if metrics_file.is_file() else {}
    return Bundle(path, config, model.eval(), metrics)


def _first_line(error: Exception) -> str:
    return "; ".join(line.strip() for line in str(error).splitlines()[:3])
