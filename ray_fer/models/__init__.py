"""Model registry: `create(name, **config)` builds a model, `names()` lists what can be built. Torch only."""

from __future__ import annotations

import inspect
from typing import Any

from torch import nn

from ray_fer.models.batch import ClipBatch, ModelOutput
from ray_fer.models.cafer import CaFer

_MODELS: dict[str, type[nn.Module]] = {"cafer": CaFer}


def names() -> list[str]:
    """Names that `create` accepts."""
    return sorted(_MODELS)


def takes(name: str, argument: str) -> bool:
    """Whether model `name` has this keyword argument. ValueError for an unknown name."""
    return argument in inspect.signature(_model(name)).parameters


def create(name: str, **config: Any) -> nn.Module:
    """Build model `name`; raises ValueError for an unknown name, TypeError or ValueError for a wrong configuration."""
    return _model(name)(**config)


def _model(name: str) -> type[nn.Module]:
    if name not in _MODELS:
        raise ValueError(f"unknown model {name!r}; expected one of {', '.join(names())}")
    return _MODELS[name]


__all__ = ["ClipBatch", "ModelOutput", "create", "names", "takes"]
