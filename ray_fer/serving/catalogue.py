"""Which models a deployment offers, and which of them answers a stream: default, canary, shadow.

The configuration is the `user_config` of the `Api` deployment. Serve hands a changed one to the replicas that run,
so another bundle, a canary or a shadow takes over between two turns of the stream workers, and nothing is restarted.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from ray_fer.bundle import PACKAGED, BundleConfig, read_config, release
from ray_fer.models import reads
from ray_fer.models.transform import TransformConfig
from ray_fer.streaming.messages import ModelInfo

Role = Literal["default", "canary", "shadow", "available"]


class UnknownModelError(ValueError):
    """A model that the deployment does not offer."""


class NoModelsError(RuntimeError):
    """Nobody has said yet which models are served."""


class Share(BaseModel):
    """A model for a part of the streams. A stream is in it or not, for as long as `fraction` stays."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str
    fraction: float = Field(gt=0, le=1, description="share of all streams")

    def holds(self, stream_id: str) -> bool:
        """Whether a stream is in the share. One that is in a smaller share is in every larger one."""
        return zlib.crc32(stream_id.encode(errors="surrogateescape")) < self.fraction * 2**32


class ModelsConfig(BaseModel):
    """Bundles by the names under which they answer."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    models: dict[str, str] = Field(min_length=1, description="name: bundle folder, or 'packaged'")
    default: str | None = Field(None, description="who answers unless another one is asked for (default: the first)")
    canary: Share | None = Field(None, description="who answers a part of the streams in place of the default")
    shadow: Share | None = Field(
        None, description="who is asked, too, about a part of the streams; its answers are compared and not given out"
    )

    @model_validator(mode="after")
    def _known(self) -> ModelsConfig:
        for role, name in self.roles().items():
            if name not in self.models:
                raise ValueError(f"{role} model {name!r} is not among the models: {', '.join(self.models)}")
        return self

    def roles(self) -> dict[str, str]:
        """Role -> model's name."""
        named = {"default": self.default or next(iter(self.models))}
        return named | {
            role: share.model for role, share in (("canary", self.canary), ("shadow", self.shadow)) if share
        }


def models_of(bundles: Sequence[str | Path], canary: str | None = None, shadow: str | None = None) -> ModelsConfig:
    """Bundles as people name them: `FOLDER`, under the bundle's own name, or `NAME=FOLDER`. The first one answers.

    `canary` and `shadow` are `NAME:FRACTION`. Raises BundleError, and ValueError for two of one name.
    """
    models: dict[str, str] = {}
    for bundle in map(str, bundles):
        name, equals, folder = bundle.partition("=")
        if not equals:
            name, folder = read_config(bundle_folder(bundle)).name, bundle
        if name in models:
            raise ValueError(f"two models are named {name!r}: give one another name, as NAME={folder}")
        models[name] = folder if folder == "packaged" else str(bundle_folder(folder))
    shares = {role: _share(role, text) for role, text in (("canary", canary), ("shadow", shadow)) if text is not None}
    return ModelsConfig(models=models, **shares)


def _share(role: str, text: str) -> Share:
    name, _, fraction = text.rpartition(":")
    try:
        return Share(model=name, fraction=float(fraction))
    except ValueError:
        raise ValueError(
            f"--{role} {text}: write NAME:FRACTION, such as candidate:0.1, with 0 < FRACTION <= 1"
        ) from None


def bundle_folder(bundle: str | Path) -> Path:
    """Where a bundle lies that is given as a folder, or as 'packaged'."""
    return PACKAGED if str(bundle) == "packaged" else Path(bundle).resolve()


@dataclass(frozen=True)
class ServedModel:
    """A model of the catalogue. `path` is its identity: a bundle that changes gets another folder."""

    info: ModelInfo
    path: str
    classes: tuple[str, ...]
    cultures: tuple[str, ...]
    transform: TransformConfig


@dataclass(frozen=True)
class Route:
    """Who answers a stream, and who is asked beside them."""

    answers: ServedModel
    shadow: ServedModel | None = None


@dataclass(frozen=True)
class Catalogue:
    """The models as they are served now."""

    models: Mapping[str, ServedModel]
    default: str
    canary: Share | None = None
    shadow: Share | None = None
    refused: str | None = field(default=None, compare=False)
    """Why a newer configuration is not the one in use."""

    def get(self, name: str | None = None) -> ServedModel:
        """A model by its name; the default one without. Raises UnknownModelError."""
        found = self.models.get(name or self.default)
        if found is None:
            raise UnknownModelError(f"no model {name!r} here; choose one of {', '.join(self.models)}")
        return found

    def route(self, stream_id: str) -> Route:
        """Who answers a stream of Kafka."""
        canary = self.canary is not None and self.canary.holds(stream_id)
        answers = self.models[self.canary.model if canary and self.canary else self.default]
        shadow = None
        if self.shadow is not None and self.shadow.holds(stream_id):
            shadow = self.models[self.shadow.model]
        return Route(answers, None if shadow == answers else shadow)

    def choose(self, name: str | None, stream_id: str) -> ServedModel:
        """Who answers a request: the model that it names, or else whoever answers its stream. Raises
        UnknownModelError."""
        return self.route(stream_id).answers if name is None else self.get(name)

    def roles(self) -> list[tuple[str, ServedModel, Role, float | None]]:
        """(name, model, role, fraction) of every model and every part that it plays."""
        shares: list[tuple[Role, Share | None]] = [("canary", self.canary), ("shadow", self.shadow)]
        played: list[tuple[str, Role, float | None]] = [(self.default, "default", None)]
        played += [(share.model, role, share.fraction) for role, share in shares if share is not None]
        idle = [name for name in self.models if name not in {one for one, _, _ in played}]
        played += [(name, "available", None) for name in idle]
        return [(name, self.models[name], role, fraction) for name, role, fraction in played]


def read_catalogue(config: ModelsConfig, frames: int | None = None) -> Catalogue:
    """Look into every bundle; no model is built.

    `frames` is how many the windows of the streams have; a model with a part in the streams must read as many. Raises
    BundleError, or ValueError for a model that reads more than faces and for models that do not go together.
    """
    models = {name: served(bundle, name) for name, bundle in config.models.items()}
    roles = config.roles()
    for role, name in roles.items():
        needed = models[name].transform.frames
        if frames is not None and needed != frames:
            raise ValueError(f"windows of {frames} frames, but the {role} model {name} reads {needed}")
    if "shadow" in roles:
        crops = {models[name].transform.crop for name in roles.values()}
        if len(crops) > 1:
            raise ValueError(
                f"shadow model {roles['shadow']} cuts faces otherwise than the models that answer, so that every face "
                "would be searched twice; give it a part of the streams as canary"
            )
    return Catalogue(models, roles["default"], config.canary, config.shadow)


def served(bundle: str | Path, name: str | None = None) -> ServedModel:
    """A bundle as it is served, under its own name or another. Raises BundleError, and ValueError as `check_live`."""
    folder = bundle_folder(bundle)
    config = read_config(folder)
    check_live(config)
    info = ModelInfo(name=name or config.name, version=release(folder))
    return ServedModel(info, str(folder), tuple(config.classes), tuple(config.cultures), config.preprocessing)


def check_live(config: BundleConfig) -> None:
    """Raise ValueError for a model that reads more than faces, of which the windows of a stream are made."""
    more = [name for name in reads(config.model, config.model_config_) if name != "frames"]
    if more:
        advice = ", or train it with --set model_config_.streams=face" if more == ["scene"] else ""
        raise ValueError(
            f"{config.name} reads {' and '.join(more)} of a clip, and windows of video hold faces alone; test it on a "
            f"clip store with `ray-fer evaluate`{advice}"
        )
