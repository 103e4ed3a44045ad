"""Contact sheets: what the clips of a preset look like, at a glance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from ray_fer.datasets.synthfer.conditions import make_take
from ray_fer.datasets.synthfer.identities import build_identity
from ray_fer.datasets.synthfer.photos import load_photos
from ray_fer.datasets.synthfer.plan import SynthOptions, plan, subjects_for
from ray_fer.datasets.synthfer.renderer import render
from ray_fer.datasets.synthfer.specs import ClipSpec, groups_of
from ray_fer.datasets.synthfer.trajectory import trajectory

_MARGIN_LEFT, _MARGIN_TOP, _GAP = 60, 26, 2
_TILE_WIDTH = 192


def write_preview(options: SynthOptions, path: Path) -> Path:
    """Write the contact sheet of `options` as PNG: one row per group, one column per expression, each at its apex.

    For preset `micro` each expression has two columns, before the onset and at the apex. A row shows one training
    subject, and the rows start from different photographs.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if not cv2.imwrite(str(path), contact_sheet(options)[..., ::-1]):
        raise ValueError(f"{path}: cannot write a picture there; give another folder")
    return path


def contact_sheet(options: SynthOptions) -> np.ndarray:
    """The sheet that `write_preview` writes, uint8 [H,W,3]."""
    specs = plan({"train": 28 * 4}, options)
    subjects = subjects_for("train", 28 * 4, options)
    rows = []
    for group, culture in enumerate(groups_of(options.preset)):
        subject = subjects[(5 * group) % len(subjects)]
        identity = build_identity(subject, load_photos(subject.photos), options.preset == "scene")
        cells = {spec.expressions[0]: spec for spec in specs if spec.culture == culture}
        tiles: dict[str, np.ndarray] = {}
        for expression in sorted(cells):
            spec = replace(cells[expression], subject=subject)
            take = make_take(spec, identity)
            for name, frame in _moments(spec):
                tiles[name] = render([take], np.array([[frame]]))[0, 0].permute(1, 2, 0).numpy()
        rows.append(tiles)
    return _sheet(rows, groups_of(options.preset))


def _moments(spec: ClipSpec) -> list[tuple[str, int]]:
    """Titles and frame numbers of what the sheet shows of one clip."""
    (part,) = trajectory(spec).parts
    if spec.preset == "micro":
        return [(f"{part.expression} start", 0), (f"{part.expression} apex", part.apex or 0)]
    apex = spec.frames // 2 if part.apex is None else part.apex
    return [(part.expression, apex)]


def _sheet(rows: list[dict[str, np.ndarray]], groups: Sequence[str]) -> np.ndarray:
    first = next(iter(rows[0].values()))
    height = round(_TILE_WIDTH * first.shape[0] / first.shape[1])
    titles = list(rows[0])
    sheet = np.full(
        (_MARGIN_TOP + len(rows) * (height + _GAP), _MARGIN_LEFT + len(titles) * (_TILE_WIDTH + _GAP), 3), 255, np.uint8
    )
    for column, title in enumerate(titles):
        _write(sheet, title, (_MARGIN_LEFT + column * (_TILE_WIDTH + _GAP) + 4, 18))
    for number, (culture, tiles) in enumerate(zip(groups, rows, strict=True)):
        top = _MARGIN_TOP + number * (height + _GAP)
        _write(sheet, culture, (20, top + height // 2))
        for column, title in enumerate(titles):
            left = _MARGIN_LEFT + column * (_TILE_WIDTH + _GAP)
            tile = cv2.resize(tiles[title], (_TILE_WIDTH, height), interpolation=cv2.INTER_AREA)
            sheet[top : top + height, left : left + _TILE_WIDTH] = tile
    return sheet


def _write(sheet: np.ndarray, text: str, at: tuple[int, int]) -> None:
    cv2.putText(sheet, text, at, cv2.FONT_HERSHEY_SIMPLEX, 0.5, (20, 20, 20), 1, cv2.LINE_AA)
