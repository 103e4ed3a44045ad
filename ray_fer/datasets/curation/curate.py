"""The whole curation: a manifest in, the kept manifest and its report out.

Persons, then ethnicity, then expression labels, then the separability of the groups, then EiLA's faces; each clip is
decoded once. A dropped clip is named in ``dropped.csv`` with the first reason met.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ray_fer.datasets.curation.advance import Advance, silent
from ray_fer.datasets.curation.agreement import cohen, fleiss, fleiss_by_subset
from ray_fer.datasets.curation.annotation_files import (
    Answers,
    read_answers,
    read_estimates,
    read_overrides,
    write_estimates,
)
from ray_fer.datasets.curation.clip_faces import find_clip_faces
from ray_fer.datasets.curation.eila_faces import FACE_FILES, FOLDER, YOLO_CONFIDENCE, MediaPipeIsolator, isolate_faces
from ray_fer.datasets.curation.estimators import EthnicityEstimator, estimate_clip, load_estimator
from ray_fer.datasets.curation.ethnicity import ClipEstimate, Decision, Override, estimator_alone, two_of_three
from ray_fer.datasets.curation.expressions import UNKNOWN_ANSWER, consensus
from ray_fer.datasets.curation.options import CurateOptions
from ray_fer.datasets.curation.persons import PersonRule
from ray_fer.datasets.curation.report import (
    CurationReport,
    Dropped,
    EthnicitySummary,
    ExpressionSummary,
    FacesSummary,
    PersonsSummary,
    UsedOverride,
    count_table,
    write_report,
)
from ray_fer.datasets.curation.separability import FaceFeatures, separability
from ray_fer.datasets.label_maps import MAFW_WORDS
from ray_fer.datasets.manifest import read_manifest, write_rows
from ray_fer.datasets.reading import Report
from ray_fer.labels import UNKNOWN_CULTURE
from ray_fer.video.all_faces import SceneFaceFinder
from ray_fer.video.limits import MediaError
from ray_fer.video.yolo_face import YoloFaceFinder

UNREADABLE = "media: cannot be read"

Row = dict[str, Any]


@dataclass
class _Inputs:
    """Contents of the annotation files."""

    votes: Answers | None = None
    estimates: dict[str, ClipEstimate] = field(default_factory=dict)
    overrides: dict[str, Override] = field(default_factory=dict)
    expressions: Answers | None = None


@dataclass
class _Looked:
    """What the pixels gave: readable clips with their main person's box, estimates and features by clip."""

    rows: list[Row] = field(default_factory=list)
    dropped: list[Dropped] = field(default_factory=list)
    estimates: dict[str, ClipEstimate] = field(default_factory=dict)
    features: dict[str, np.ndarray] = field(default_factory=dict)
    persons: Counter[int] = field(default_factory=Counter)


def curate(options: CurateOptions, advance: Advance = silent) -> CurationReport:
    """Curate a manifest, and write ``manifest.parquet`` and the report below `options.output`.

    Raises ValueError (ManifestError, DatasetError, EstimatorError, WeightsError, YoloError) with advice, and
    FileExistsError when the output is there and `overwrite` is not set. All that can be checked is checked before the
    first clip is decoded.
    """
    options.check()
    rows = read_manifest(options.manifest)
    if not rows:
        raise ValueError(f"{options.manifest}: the manifest is empty")
    reading = Report()
    inputs = _read_inputs(options, {row["clip_id"] for row in rows}, reading)
    estimator = load_estimator(options.estimator, options.weights) if options.estimator else None
    features = FaceFeatures(options.resnet_weights) if options.separability else None
    yolo = YoloFaceFinder(options.face_model, min_confidence=YOLO_CONFIDENCE) if options.face_model else None
    output = _prepare(options, rows)

    looked = _Looked(rows)
    if options.looks_at_faces:
        looked = _look(rows, options, estimator, features, advance)
    if estimator is not None:
        write_estimates(output / "estimates.csv", looked.estimates)
        inputs.estimates = looked.estimates
    kept, dropped = looked.rows, looked.dropped
    parts: dict[str, Any] = {}
    if options.persons is not None:
        rule = options.persons
        counts = dict(sorted(looked.persons.items()))
        parts["persons"] = PersonsSummary(rule.max_persons, rule.frames, rule.min_share, counts)
    if options.filters_ethnicity:
        kept, parts["ethnicity"] = _decide_ethnicity(kept, inputs, options, dropped)
    if inputs.expressions is not None:
        kept, parts["expressions"] = _decide_expressions(kept, inputs.expressions, options, dropped)
    if options.separability and kept:
        usable = [row for row in kept if row["clip_id"] in looked.features and row["culture"] != UNKNOWN_CULTURE]
        parts["separability"] = separability(
            np.array([looked.features[row["clip_id"]] for row in usable]),
            [row["culture"] for row in usable],
            [row["subject_id"] for row in usable],
        )
    if options.faces is not None:
        with MediaPipeIsolator() if yolo is None else nullcontext(yolo) as isolator:
            faces = isolate_faces(kept, output, isolator, options.faces, advance)
        kept = faces.rows
        dropped += [Dropped(*one) for one in faces.dropped]
        name = "MediaPipe" if options.face_model is None else f"YOLOv8 ({options.face_model.name})"
        parts["faces"] = FacesSummary(name, options.faces, len(kept))

    report = CurationReport(
        str(options.manifest), len(rows), len(kept), count_table(rows), count_table(kept), dropped,
        problems=[str(problem) for problem in reading.problems], **parts,
    )  # fmt: skip
    write_report(report, output)
    write_rows(kept, output / "manifest.parquet")
    return report


def _read_inputs(options: CurateOptions, clips: set[str], report: Report) -> _Inputs:
    inputs, scheme = _Inputs(), options.scheme
    if options.votes is not None:
        inputs.votes = read_answers(options.votes, report, scheme.resolve, scheme.accepted(), clips, raters=2)
    if options.estimates is not None:
        inputs.estimates = read_estimates(options.estimates, report, scheme, clips)
    if options.overrides is not None:
        inputs.overrides = read_overrides(options.overrides, report, scheme, clips)
    if options.expressions is not None:
        inputs.expressions = read_answers(
            options.expressions, report, MAFW_WORDS.resolve, MAFW_WORDS.accepted(), clips, unknown=UNKNOWN_ANSWER
        )
    return inputs


def _prepare(options: CurateOptions, rows: list[Row]) -> Path:
    """The output folder. Only an earlier curation is ever removed from it, and only when `overwrite` says so.

    Raises FileExistsError or ValueError, also when the clips that are to be read lie in that folder.
    """
    output = options.output.resolve()
    source = options.manifest / "manifest.parquet" if options.manifest.is_dir() else options.manifest
    if any(Path(path).is_relative_to(output) for path in (source.resolve(), *(row["path"] for row in rows))):
        raise ValueError(f"{options.output} holds the manifest or the clips that are read; choose another folder")
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        if not options.overwrite:
            raise FileExistsError(f"{options.output} exists; choose another folder or pass --overwrite")
        if not (output / "report.json").is_file() or not (output / "dropped.csv").is_file():
            raise FileExistsError(
                f"{options.output} is no earlier curation, so it is not replaced; choose another folder"
            )
        _remove_earlier(output)
    output.mkdir(parents=True, exist_ok=True)
    return output


def _remove_earlier(output: Path) -> None:
    """Remove what a curation wrote; files that are not ours stay."""
    for name in ("manifest.parquet", "report.json", "report.md", "dropped.csv", "kept.png", "estimates.csv"):
        (output / name).unlink(missing_ok=True)
    for face in (output / FOLDER).glob(FACE_FILES):
        face.unlink()


def _look(
    rows: list[Row],
    options: CurateOptions,
    estimator: EthnicityEstimator | None,
    features: FaceFeatures | None,
    advance: Advance,
) -> _Looked:
    looked = _Looked()
    rule = options.persons or PersonRule(max_persons=None)
    with SceneFaceFinder() as finder:
        for done, row in enumerate(rows, start=1):
            try:
                faces = find_clip_faces(row, finder, rule)
            except MediaError as error:
                looked.dropped.append(Dropped(row["clip_id"], UNREADABLE, str(error)))
                continue
            finally:
                advance("looking at clips", done, len(rows))
            decision = faces.decision
            looked.persons[len(decision.seen)] += 1
            if decision.main is None:
                seen = ", ".join(map(str, decision.seen)) or "none"
                reason = decision.reason or ""
                looked.dropped.append(Dropped(row["clip_id"], reason, f"frames of each person: {seen}"))
                continue
            if estimator is not None:
                estimate = estimate_clip(faces.crops, estimator, options.scheme.estimators[estimator.name])
                if estimate is not None:
                    looked.estimates[row["clip_id"]] = estimate
            if features is not None and faces.crops:
                looked.features[row["clip_id"]] = features([faces.crops[len(faces.crops) // 2]])[0]
            chosen = row["bbox"] is None and options.persons is not None
            looked.rows.append(row | {"bbox": list(decision.main.median_box())} if chosen else row)
    return looked


def _decide_ethnicity(
    rows: list[Row], inputs: _Inputs, options: CurateOptions, dropped: list[Dropped]
) -> tuple[list[Row], EthnicitySummary]:
    votes: Mapping[str, Mapping[str, str | None]] = inputs.votes.by_clip if inputs.votes else {}
    raters = inputs.votes.raters if inputs.votes else ()

    def decide(clip_id: str, override: Override | None) -> Decision:
        estimate = inputs.estimates.get(clip_id)
        if options.alone:
            return estimator_alone(estimate, override, options.limit)
        said = votes.get(clip_id, dict.fromkeys(raters))
        return two_of_three(said, estimate, override, options.limit)

    kept, used, decided_by = [], [], Counter[str]()
    for row in rows:
        override = inputs.overrides.get(row["clip_id"])
        decision = decide(row["clip_id"], override)
        if decision.culture is None:
            dropped.append(Dropped(row["clip_id"], decision.reason or "", decision.detail))
            continue
        if override is not None:
            before = decide(row["clip_id"], None).culture
            used.append(UsedOverride(row["clip_id"], override.culture, override.note, before))
        decided_by[" + ".join(decision.sources)] += 1
        kept.append(row | {"culture": decision.culture})
    ratings = [[said[name] for name in raters] for said in votes.values()]
    return kept, EthnicitySummary(
        groups=options.groups,
        rule="the estimator alone" if options.alone else "two of three sources agree",
        estimator=options.estimator or (str(options.estimates) if options.estimates else None),
        threshold=options.limit,
        below_threshold=sum(one.confidence < options.limit for one in inputs.estimates.values()),
        decided_by=dict(decided_by.most_common()),
        annotators=cohen(ratings) if inputs.votes else None,
        overrides=used,
    )


def _decide_expressions(
    rows: list[Row], annotations: Answers, options: CurateOptions, dropped: list[Dropped]
) -> tuple[list[Row], ExpressionSummary]:
    kept, ratings, cultures, changed = [], [], [], 0
    for row in rows:
        answers = annotations.by_clip.get(row["clip_id"])
        if answers is None:
            kept.append(row)
            continue
        ratings.append([answers[name] for name in annotations.raters])
        cultures.append(row["culture"])
        agreed = consensus(answers, options.expression_rule)
        if agreed.label is None:
            dropped.append(Dropped(row["clip_id"], agreed.reason or "", agreed.detail))
        else:
            changed += agreed.label != row["label"]
            kept.append(row | {"label": agreed.label})
    return kept, ExpressionSummary(
        rule=options.expression_rule,
        annotators=annotations.raters,
        unannotated=len(rows) - len(ratings),
        changed=changed,
        overall=fleiss(ratings),
        by_culture=fleiss_by_subset(ratings, cultures),
    )
