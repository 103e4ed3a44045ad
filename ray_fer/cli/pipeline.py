"""Commands from a manifest to training data: preprocess, Action Units, priors."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.console import Console
from rich.table import Table

from ray_fer.cli.options import AsJson, Overwrite
from ray_fer.cli.progress import rows_per_second
from ray_fer.errors import exit_on_bad_input

if TYPE_CHECKING:
    from ray_fer.preprocessing.store import Summary

_FAILURES_SHOWN = 20


@exit_on_bad_input
def preprocess(
    manifest: Annotated[str, typer.Argument(help="manifest.parquet, or its folder; a path or a URL (s3://...)")],
    output: Annotated[str, typer.Argument(help="folder or URL of the clip store to write")],
    frames: Annotated[int, typer.Option(min=1, help="frames per clip")] = 16,
    sampling: Annotated[
        Literal["uniform", "segment", "consecutive"], typer.Option(help="segment: short runs spread over the clip")
    ] = "uniform",
    per_segment: Annotated[
        int, typer.Option(min=1, help="frames per segment: 2 of 16 frames is Former-DFER's 8x2")
    ] = 1,
    stride: Annotated[int, typer.Option(min=1, help="step between consecutive frames")] = 1,
    padding: Annotated[
        Literal["repeat_last", "repeat_first", "loop", "mirror", "stretch", "error"],
        typer.Option(help="how clips with fewer frames are filled up"),
    ] = "repeat_last",
    scene: Annotated[
        Literal["none", "whole", "masked"], typer.Option(help="keep the whole frames too, with or without the face")
    ] = "none",
    flow: Annotated[
        Literal["none", "tvl1", "farneback", "dis"], typer.Option(help="keep the optical flow from onset to apex")
    ] = "none",
    yolo_weights: Annotated[
        Path | None, typer.Option(help="find faces with this YOLOv8 face model (ONNX) instead of MediaPipe's detector")
    ] = None,
    shard_clips: Annotated[int | None, typer.Option(min=1, help="most clips per shard (default: by size)")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="finish what an interrupted run left")] = False,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="also try clips again that failed")] = False,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Decode, sample, find and align faces of all clips of a manifest, on Ray Data.

    Clips that cannot be used are listed with the reason in OUTPUT/failures.parquet. A second run over unchanged input
    does no work; after an interruption, --resume finishes the shards that are missing.
    """
    from ray_fer.preprocessing.clips import ClipOptions
    from ray_fer.preprocessing.clips import preprocess as run
    from ray_fer.serving.local_ray import ray_session
    from ray_fer.video.sampling import Sampling

    options = ClipOptions(
        sampling=Sampling(strategy=sampling, frames=frames, per_segment=per_segment, stride=stride, padding=padding),
        scene=scene, flow=flow, yolo_weights=None if yolo_weights is None else str(yolo_weights.resolve()),
    )  # fmt: skip
    with rows_per_second("clips") as progress:
        summary = run(manifest, output, options, shard_clips, resume, retry_failed, overwrite, progress, ray_session)
    report(summary, "clips", as_json)


@exit_on_bad_input
def aus(
    source: Annotated[str, typer.Argument(help="clip store, or a video or folder of videos: then a row per frame")],
    output: Annotated[str, typer.Argument(help="folder or URL of the AU table to write")],
    extractor: Annotated[
        Literal["blendshape", "pyfeat", "openface_csv"],
        typer.Option(help="MediaPipe's blendshapes, py-feat's networks, or tables that you have"),
    ] = "blendshape",
    calibrated: Annotated[bool, typer.Option(help="blendshape: weights fitted on SynthFER, or plain means")] = True,
    detector: Annotated[Literal["v2", "v1"], typer.Option(help="pyfeat: which detector's AU head")] = "v2",
    weights: Annotated[Path | None, typer.Option(help="pyfeat: file or folder of its weights (default: cache)")] = None,
    device: Annotated[str | None, typer.Option(help="pyfeat: cpu or cuda (default: a GPU if there is one)")] = None,
    tables: Annotated[Path | None, typer.Option(help="openface_csv: CSV of OpenFace or py-feat, or a folder")] = None,
    active: Annotated[
        float | None, typer.Option(min=0, max=1, help="an AU is active from this intensity (default: the extractor's)")
    ] = None,
    priors_file: Annotated[Path | None, typer.Option("--priors", help="also write culture priors to this file")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="finish what an interrupted run left")] = False,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="also try clips again that failed")] = False,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Extract Action Units of all clips of a store, and their 80 statistics, on Ray Data.

    From videos, the AUs of every frame of one face are extracted; long videos are cut into pieces that all CPUs or
    machines work on at once.
    """
    from ray_fer.preprocessing.aus import compute_priors, extract_aus
    from ray_fer.preprocessing.frame_aus import extract_frame_aus, find_videos
    from ray_fer.preprocessing.store import read_description
    from ray_fer.serving.local_ray import ray_session

    options: dict[str, Any] = {"calibrated": calibrated}
    if extractor == "pyfeat":
        options = {"detector": detector, "weights": _absolute(weights), "device": device}
    elif extractor == "openface_csv":
        if tables is None:
            raise ValueError("openface_csv reads tables that you have; name the file or folder with --tables")
        options = {"tables": _absolute(tables)}
    if read_description(source) is None:
        if priors_file is not None:
            raise ValueError(f"{source} is no clip store; priors need one, made by `ray-fer preprocess`")
        if active is not None:
            raise ValueError("--active belongs to the statistics of clips; a table of frames has none")
        videos = find_videos([source])
        with rows_per_second("pieces") as progress:
            summary = extract_frame_aus(
                videos,
                output,
                extractor,
                options,
                resume,
                retry_failed,
                overwrite,
                progress=progress,
                session=ray_session,
            )
        report(summary, "frames", as_json)
        return
    with rows_per_second("clips") as progress:
        summary = extract_aus(
            source, output, extractor, options, active, resume, retry_failed, overwrite, progress, ray_session
        )
    report(summary, "clips", as_json)
    if priors_file is not None:
        written = compute_priors(output).write(priors_file)
        print(written, file=sys.stderr if as_json else sys.stdout)


def _absolute(path: Path | None) -> str | None:
    return None if path is None else str(path.resolve())


def report(summary: Summary, what: str, as_json: bool) -> None:
    from ray_fer.preprocessing.store import FAILURES

    if as_json:
        print(json.dumps({**vars(summary), "failed": [vars(failure) for failure in summary.failed]}))
        return
    for failure in summary.failed[:_FAILURES_SHOWN]:
        print(f"failed: {failure.clip_id}: {failure.reason}", file=sys.stderr)
    if len(summary.failed) > _FAILURES_SHOWN:
        print(f"... and {len(summary.failed) - _FAILURES_SHOWN} more", file=sys.stderr)
    if not summary.made:
        print(f"{summary.store} is complete and its input unchanged: nothing was done")
    failures = f" (see {FAILURES} in it)" if summary.failed else ""
    print(f"{summary.store}: {summary.usable} {what}, {len(summary.failed)} failed{failures}")


@exit_on_bad_input
def priors(
    au_table: Annotated[str, typer.Argument(help="AU table")],
    output: Annotated[Path, typer.Argument(help="priors.json to write; a CSV and two plots go beside it")],
    split: Annotated[str, typer.Option(help="clips to use; 'all' for every split")] = "train",
    unit: Annotated[
        Literal["clip", "subject"],
        typer.Option(help="what the ANOVA counts; clips of one subject are not independent of each other"),
    ] = "clip",
    correction: Annotated[
        Literal["holm", "bonferroni", "fdr_bh", "none"], typer.Option(help="for testing eighty statistics at once")
    ] = "holm",
    level: Annotated[float, typer.Option(min=0, max=1, help="corrected p below which a difference counts")] = 0.05,
) -> None:
    """Compute culture priors: AU profiles per culture, and the ANOVA that says where cultures differ."""
    from ray_fer.action_units.priors_report import write_report
    from ray_fer.preprocessing.aus import compute_priors

    result = compute_priors(au_table, split=None if split == "all" else split, unit=unit, correction=correction)
    table = Table("AU statistic", "F", "p", "corrected p", "eta²", title="Where cultures differ most")
    for row in result.ranked()[:10]:
        f, p, corrected = ("" if value is None else f"{value:.3g}" for value in (row.f, row.p, row.p_corrected))
        mark = " *" if row.significant(level) else ""
        table.add_row(row.statistic + mark, f, p, corrected, f"{row.eta_squared:.3f}")
    Console().print(table)
    counted = ", ".join(f"{name} {count}" for name, count in result.clips.items())
    print(f"clips: {counted}; * differs at level {level:g} ({result.correction} over all tests, by {result.unit})")
    for path in [result.write(output), *write_report(result, output.with_suffix(""), level)]:
        print(path)
