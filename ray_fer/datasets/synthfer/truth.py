"""The ground truth that lies beside the clips: manifest rows, AUs of every frame, and the planted rules."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ray_fer.datasets.manifest import Clip
from ray_fer.datasets.synthfer.micro_rules import PAINT
from ray_fer.datasets.synthfer.plan import GCCFER_COUNTS, SynthOptions
from ray_fer.datasets.synthfer.rules import (
    DISPLAY_RULES,
    PROTOTYPES,
    TRIPLES,
    Cell,
    Display,
    agnostic_ceiling_uar,
    shown_as,
)
from ray_fer.datasets.synthfer.specs import ClipSpec, groups_of, rules_of
from ray_fer.datasets.synthfer.trajectory import trajectory
from ray_fer.labels import AU_NAMES, EXPRESSIONS

_FRAMES_OF_AUS = pa.list_(pa.list_(pa.float32()))
SCHEMA = pa.schema(
    [
        pa.field("clip_id", pa.string(), nullable=False),
        pa.field("subject", pa.string(), nullable=False),
        pa.field("culture", pa.string(), nullable=False),
        pa.field("label", pa.string()),
        pa.field("expressions", pa.list_(pa.string())),
        pa.field("polarity", pa.string()),
        pa.field("fps", pa.int32()),
        pa.field("au", _FRAMES_OF_AUS),
        pa.field("au_left", _FRAMES_OF_AUS),
        pa.field("au_right", _FRAMES_OF_AUS),
    ],
    metadata={"au_names": json.dumps(AU_NAMES)},
)
"""`au` [N][20] is the mean of both sides of the face at each frame; left and right are the person's own."""


def manifest_row(spec: ClipSpec, occluded: bool, crf: int) -> Clip:
    """The manifest's row of one clip: its label, where onset, apex and offset lie, and its segments as JSON.

    A stream of several expressions has no label, but a labelled segment for each. Among the annotations are the
    polarity, the emotion behind the label of a micro-expression, whether something hides a part of the face, and the
    rate factor of the compression.
    """
    parts = trajectory(spec).parts
    single = parts[0] if len(parts) == 1 else None
    annotations: dict[str, object] = {
        "segments": [
            {
                "label": spec.label or part.expression,
                "start_us": round(position * spec.part_frames / spec.fps * 1e6),
                "end_us": round((position + 1) * spec.part_frames / spec.fps * 1e6),
                "peak_aus": {au: round(float(v), 3) for au, v in zip(AU_NAMES, part.peak, strict=True) if v > 0},
            }
            for position, part in enumerate(parts)
        ],
        "occluded": occluded,
        "crf": crf,
    }
    if spec.preset == "micro":
        annotations["emotion"] = spec.expressions[0]
    if spec.polarity is not None:
        annotations["polarity"] = spec.polarity
    return Clip(
        clip_id=spec.clip_id,
        dataset="synthfer",
        path=f"videos/{spec.clip_id}.mp4",
        label=spec.label,
        culture=spec.culture,
        subject_id=spec.subject.subject_id,
        split=spec.subject.split,
        onset=single.onset if single else None,
        apex=single.apex if single else None,
        offset=single.offset if single else None,
        annotations=json.dumps(annotations),
    )


def write_truth(specs: Sequence[ClipSpec], root: Path, options: SynthOptions | None = None) -> None:
    """Write ``truth.json`` (the rules) and ``truth/aus.parquet`` (every frame) below `root`."""
    (root / "truth").mkdir(parents=True, exist_ok=True)
    with pq.ParquetWriter(root / "truth" / "aus.parquet", SCHEMA, compression="zstd") as writer:
        for start in range(0, len(specs), 256):
            rows = [_au_row(spec) for spec in specs[start : start + 256]]
            writer.write_table(pa.Table.from_pylist(rows, schema=SCHEMA))
    (root / "truth.json").write_text(json.dumps(planted_rules(specs, options), indent=1) + "\n")


def planted_rules(specs: Sequence[ClipSpec], options: SynthOptions | None = None) -> dict[str, object]:
    """What was planted into these clips, for ``truth.json``. `options` are those of the plan, to be recorded.

    Raises ValueError when the clips differ in preset or strength, or there is none.
    """
    if not specs:
        raise ValueError("there is no clip to render; ask for at least 1")
    if len({(spec.preset, spec.strength) for spec in specs}) != 1:
        raise ValueError("clips of several presets or strengths cannot share one truth; generate them apart")
    preset, strength = specs[0].preset, specs[0].strength
    cells: dict[str, Counter[Cell]] = {}
    clips: dict[str, dict[str, dict[str, int]]] = {}
    subjects: dict[str, dict[str, dict[str, list[str]]]] = {}
    for spec in specs:
        split = spec.subject.split
        people = subjects.setdefault(split, {}).setdefault(spec.culture, {})
        people[spec.subject.subject_id] = [Path(name).name for name in spec.subject.photos]
        row = clips.setdefault(split, {}).setdefault(spec.culture, dict.fromkeys(EXPRESSIONS, 0))
        for expression in spec.expressions:
            row[expression] += 1
            cell = Cell(spec.label or expression, expression, spec.culture, spec.polarity)
            cells.setdefault(split, Counter())[cell] += 1
    truth: dict[str, object] = {
        "note": "Groups A to D stand for nobody; their display rules are invented.",
        "preset": preset,
        "strength": strength,
        "options": None if options is None else options.as_json(),
        "agnostic_ceiling_uar": {
            split: round(agnostic_ceiling_uar(found, strength, rules_of(preset)), 6) for split, found in cells.items()
        },
        "au_names": list(AU_NAMES),
        "prototypes": PROTOTYPES,
        "groups": {culture: _group(culture, preset, strength) for culture in groups_of(preset)},
        "clips": clips,
        "subjects": subjects,
    }
    if preset != "micro":
        truth["triples"] = [list(triple) for triple in TRIPLES]
    if preset == "gccfer":
        truth["sizes_of_table_ii"] = dict(zip(groups_of(preset), map(sum, GCCFER_COUNTS), strict=True))
    return truth


def _group(culture: str, preset: str, strength: float) -> dict[str, object]:
    """One group: what each expression looks like at this strength, and what tells the group, or its rules at 1."""
    shown = {name: _look(rules_of(preset)(name, culture, strength)) for name in EXPRESSIONS}
    if preset == "micro":
        return {"paint_rgb": list(PAINT[culture]), "expressions": shown}
    rules = DISPLAY_RULES[culture]
    for expression, look in shown.items():
        look["prototype_at_strength_1"] = shown_as(expression, culture)
    return {
        "gains": _named(rules.gain_vector()), "rest": _named(rules.accent_vector()), "asymmetry": rules.asymmetry,
        "delay_s": rules.delay, "rise_factor": rules.rise, "rotation": list(rules.rotation), "expressions": shown,
    }  # fmt: skip


def _look(look: Display) -> dict[str, object]:
    return {
        "peak": _named(look.pattern), "rest": _named(look.accent), "asymmetry": round(look.asymmetry, 4),
        "delay_s": round(look.delay, 4), "rise_factor": round(look.rise, 4),
    }  # fmt: skip


def _named(values: np.ndarray) -> dict[str, float]:
    return {au: round(float(value), 4) for au, value in zip(AU_NAMES, values, strict=True) if value}


def _au_row(spec: ClipSpec) -> dict[str, object]:
    aus = trajectory(spec)
    return {
        "clip_id": spec.clip_id, "subject": spec.subject.subject_id, "culture": spec.culture, "label": spec.label,
        "expressions": list(spec.expressions), "polarity": spec.polarity, "fps": spec.fps,
        "au": aus.mean.tolist(), "au_left": aus.left.tolist(), "au_right": aus.right.tolist(),
    }  # fmt: skip
