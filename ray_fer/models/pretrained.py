"""Public weights from local files into our models: safetensors, torch (weights only), NumPy, Keras, Scenic.

Each model renames and reshapes what it knows (`Model.adapted`); here files are read and the outcome is checked.
"""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from ray_fer.models.backbones.flax_checkpoint import read_flax
from ray_fer.models.card import Model
from ray_fer.models.keras_weights import read_keras

_NESTED = ("state_dict", "model_state", "model_state_dict", "model")
"""Where released checkpoints keep the weights beside an optimiser and other things."""
_WRAPPER = "module."


@dataclass(frozen=True)
class Loaded:
    """`loaded`: our parameters and buffers that were read; `left`: ours that stayed as they were drawn."""

    loaded: list[str]
    left: list[str]


def load_pretrained(model: Model, path: str | Path) -> Loaded:
    """Put public weights of a local file (or a folder that holds model.safetensors) into a model.

    What has no counterpart, such as a head for other classes, stays as it was. Raises FileNotFoundError, or ValueError
    that names the file and what does not fit.
    """
    path = Path(path)
    state = read_weights(path)
    try:
        adapted = model.adapted(state)
    except (KeyError, RuntimeError) as error:
        raise ValueError(f"{path} does not hold weights for {model.card.title}: {error}") from error
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    ours = model.state_dict()
    for name, tensor in adapted.items():
        if name not in ours:
            raise ValueError(f"{path}: {model.card.title} has no {name}")
        if ours[name].shape != tensor.shape:
            raise ValueError(
                f"{path}: {name} has shape {tuple(tensor.shape)}, the model {tuple(ours[name].shape)}; it is of "
                "another size or configuration"
            )
    if not adapted:
        raise ValueError(f"{path}: nothing in it belongs to {model.card.title}")
    model.load_state_dict({**ours, **adapted})
    return Loaded(sorted(adapted), sorted(set(ours) - set(adapted)))


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """The weights of a file by their names there. Raises FileNotFoundError or ValueError."""
    path = Path(path)
    if path.suffix in (".h5", ".hdf5"):
        return read_keras(path)
    if path.is_dir():
        path = path / "model.safetensors"
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; weights are read from local files only")
    try:
        if path.suffix == ".safetensors":
            return load_file(str(path))
        if path.suffix in ("", ".msgpack"):  # Scenic names its files "checkpoint"
            return read_flax(path)
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as arrays:
                return {name: torch.from_numpy(arrays[name]) for name in arrays.files}
        return _unwrapped(torch.load(path, map_location="cpu", weights_only=True))
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError) as error:
        what = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(f"{path} holds no weights that can be read safely: {what}") from error


def _unwrapped(content: Any) -> dict[str, Tensor]:
    for name in _NESTED:
        if isinstance(content, dict) and isinstance(content.get(name), dict):
            content = content[name]
    if not isinstance(content, dict):
        raise ValueError(f"a {type(content).__name__} and not a dictionary of tensors")
    tensors = {str(name): value for name, value in content.items() if isinstance(value, Tensor)}
    if not tensors:
        raise ValueError("a dictionary without tensors")
    if all(name.startswith(_WRAPPER) for name in tensors):
        tensors = {name.removeprefix(_WRAPPER): value for name, value in tensors.items()}
    return tensors
