"""Model registry: `create(name, **config)` builds a model, `names()` lists what can be built. Torch only."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from ray_fer.models.batch import ClipBatch, InputName, ModelOutput
from ray_fer.models.c3d import C3D
from ray_fer.models.cafer import CaFer
from ray_fer.models.card import Card, Model
from ray_fer.models.dfer_clip import DferClip
from ray_fer.models.dpcnet import Dpcnet
from ray_fer.models.ethnicmer import EthnicMer
from ray_fer.models.former_dfer import FormerDfer
from ray_fer.models.hdf import HDF
from ray_fer.models.i3d import I3D
from ray_fer.models.m3dfel import M3dfel
from ray_fer.models.mc3_18 import MC3_18
from ray_fer.models.nr_dfernet import NrDfernet
from ray_fer.models.ous import Ous
from ray_fer.models.p3d import P3D
from ray_fer.models.r2plus1d_18 import R2Plus1D18
from ray_fer.models.r3d_18 import R3D18
from ray_fer.models.resnet18_gru import ResNet18Gru
from ray_fer.models.resnet18_lstm import ResNet18Lstm
from ray_fer.models.resnet18_vit import ResNet18Vit
from ray_fer.models.resnet50v2 import ResNet50V2Classifier
from ray_fer.models.vgg13_lstm import Vgg13Lstm

_MODELS: dict[str, type[Model]] = {
    "c3d": C3D,
    "cafer": CaFer,
    "dfer_clip": DferClip,
    "dpcnet": Dpcnet,
    "ethnicmer": EthnicMer,
    "former_dfer": FormerDfer,
    "hdf": HDF,
    "i3d": I3D,
    "m3dfel": M3dfel,
    "mc3_18": MC3_18,
    "nr_dfernet": NrDfernet,
    "ous": Ous,
    "p3d": P3D,
    "r2plus1d_18": R2Plus1D18,
    "r3d_18": R3D18,
    "resnet18_gru": ResNet18Gru,
    "resnet18_lstm": ResNet18Lstm,
    "resnet18_vit": ResNet18Vit,
    "resnet50v2": ResNet50V2Classifier,
    "vgg13_lstm": Vgg13Lstm,
}


def names() -> list[str]:
    """Names that `create` accepts."""
    return sorted(_MODELS)


def takes(name: str, argument: str) -> bool:
    """Whether model `name` has this keyword argument. ValueError for an unknown name."""
    return argument in inspect.signature(_model(name)).parameters


def reads(name: str, config: Mapping[str, Any]) -> tuple[InputName, ...]:
    """What model `name` with these arguments needs of a clip. ValueError for an unknown name."""
    return _model(name).reads(config)


def card(name: str) -> Card:
    """Paper, status, input and published figures of model `name`. ValueError for an unknown name."""
    return _model(name).card


def create(name: str, preset: str | None = None, **config: Any) -> Model:
    """Build model `name`, at its paper's size or as preset "tiny"; `config` goes before the preset.

    Raises ValueError for an unknown name or preset, TypeError or ValueError for a wrong configuration.
    """
    model = _model(name)
    if preset not in (None, "tiny"):
        raise ValueError(f"unknown preset {preset!r}; there is 'tiny'")
    return model(**{**(model.card.tiny if preset else {}), **config})


def _model(name: str) -> type[Model]:
    if name not in _MODELS:
        raise ValueError(f"unknown model {name!r}; expected one of {', '.join(names())}")
    return _MODELS[name]


__all__ = ["Card", "ClipBatch", "Model", "ModelOutput", "card", "create", "names", "reads", "takes"]
