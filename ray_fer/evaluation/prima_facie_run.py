"""The prima facie study on a clip store: features of its flow images, and draws spread over the Ray cluster."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import ray
import torch

from ray_fer.evaluation.inputs import check_inputs, prepared, standardised
from ray_fer.evaluation.prima_facie import SUBJECTS, TREES, Material, check_size, one_draw, summarised
from ray_fer.models.backbones.frame_cnn import ResNet18, imagenet_weights
from ray_fer.models.pretrained import read_weights
from ray_fer.models.transform import TransformConfig
from ray_fer.preprocessing.store_index import ClipIndex, read_index, read_rows

_AT_ONCE = 16
_RANDOM_SEED = 0


@dataclass(frozen=True)
class StudyOptions:
    """What is compared, on which clips, and how often."""

    store: str
    pretrained: Path | None = None
    """ImageNet's ResNet-18, as in the paper; a random network of its kind when None."""
    groups: tuple[str, ...] = ()
    """Two values of column culture; those that there are when empty."""
    negative: str = "Negative"
    """Label of the clips that are told from all others."""
    subjects: int = SUBJECTS
    draws: int = 100
    seed: int = 0
    trees: int = TREES

    def check(self) -> None:
        """Raise ValueError for options that cannot work."""
        if len(self.groups) not in (0, 2):
            raise ValueError(f"the study compares two groups, not {', '.join(self.groups)}")
        if self.draws < 1 or self.trees < 1:
            raise ValueError(f"{self.draws} draws of forests of {self.trees} trees: give 1 or more of each")


def study(
    options: StudyOptions,
    progress: Callable[[int, int], None] = lambda _done, _all: None,
    session: Callable[[], AbstractContextManager[Any]] = nullcontext,
) -> dict[str, Any]:
    """Table IV on these clips, on the current Ray: what `summarised` gives, the options and the clips left out.

    `session` is opened around the draws, which need Ray, once the clips are known to allow them. Raises ValueError for
    clips that do not, FileNotFoundError for weights that are not there.
    """
    options.check()
    index, left_out = usable(read_index(options.store), options)
    material = flow_material(index, options)
    check_size(material, options.subjects)
    with session():
        draws = _drawn(material, options, progress)
    members = material.members()
    return {
        **summarised(draws),
        "subjects": {name: len(one) for name, one in members.items()}, "drawn": options.subjects,
        "clips": {name: material.groups.count(name) for name in members}, "left_out": left_out,
        "negative": int(material.negative.sum()), "trees": options.trees, "seed": options.seed,
        "features": "ResNet-18, drawn at random" if options.pretrained is None else f"ResNet-18, {options.pretrained}",
    }  # fmt: skip


def _drawn(
    material: Material, options: StudyOptions, progress: Callable[[int, int], None]
) -> list[dict[str, list[float]]]:
    """`one_draw` of each seed, in their order."""
    shared = ray.put(material)
    task = ray.remote(num_cpus=1)(one_draw)
    waiting = {
        task.remote(shared, options.subjects, options.seed + number, options.trees): number
        for number in range(options.draws)
    }
    found: dict[int, dict[str, list[float]]] = {}
    while waiting:
        (done,), _ = ray.wait(list(waiting), num_returns=1)
        found[waiting.pop(done)] = ray.get(done)
        progress(len(found), options.draws)
    return [found[number] for number in sorted(found)]


def usable(index: ClipIndex, options: StudyOptions) -> tuple[ClipIndex, dict[str, int]]:
    """Clips of both groups whose subject and label are known, and how many are left out for which reason.

    Raises ValueError when no clip is negative.
    """
    reasons = [_reason(row, options.groups) for row in index.table.to_pylist()]
    kept = index.where(np.array([reason is None for reason in reasons], bool))
    if options.negative not in kept.column("label"):
        there = ", ".join(sorted(set(map(str, kept.column("label")))))
        raise ValueError(f"{index.store}: no clip is labelled {options.negative}; there are {there or 'none'}")
    counts = {reason: reasons.count(reason) for reason in sorted({one for one in reasons if one is not None})}
    return kept, counts


def flow_material(index: ClipIndex, options: StudyOptions) -> Material:
    """Pooled features [N,512] of the clips' flow images."""
    check_inputs(index.store, ("flow",))
    network = _network(options.pretrained)
    transform = TransformConfig(frames=1)
    features = []
    for shard, rows in index.by_shard():
        for start in range(0, len(rows), _AT_ONCE):
            stored = read_rows(index.store, shard, rows[start : start + _AT_ONCE], ["flow"]).column("flow")
            flow = torch.stack([prepared("flow", one.as_py(), transform) for one in stored])
            with torch.inference_mode():
                features.append(network(standardised("flow", flow, transform)).numpy())
    owners = zip(index.column("dataset"), index.column("subject_id"), strict=True)
    return Material(
        np.concatenate(features), np.array([name == options.negative for name in index.column("label")]),
        [f"{dataset}/{subject}" for dataset, subject in owners], list(map(str, index.column("culture"))),
    )  # fmt: skip


def _network(pretrained: Path | None) -> ResNet18:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(_RANDOM_SEED)
        network = ResNet18()
    if pretrained is not None:
        try:
            known = imagenet_weights(network, read_weights(pretrained))
        except KeyError as error:
            raise ValueError(f"{pretrained} does not hold weights of torchvision's ResNet-18: no {error}") from error
        network.load_state_dict({**network.state_dict(), **known})
    return network.eval()


def _reason(row: dict[str, Any], groups: Sequence[str]) -> str | None:
    """Why a clip has no part in the study."""
    for column in ("label", "culture", "subject_id"):
        if row[column] is None:
            return f"no {column}"
    return "another group" if groups and row["culture"] not in groups else None
