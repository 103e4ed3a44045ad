"""`ray-fer crossval`: train and test a recipe on every fold."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from ray_fer.cli.options import AsJson, Overwrite
from ray_fer.cli.training import Settings
from ray_fer.cli.trials import (
    Aus,
    Faces,
    Mlflow,
    PaperProtocol,
    Parallel,
    PriorsFile,
    RecipeName,
    Seeds,
    Store,
    TensorBoard,
    command_line,
    numbers,
    only_json,
    print_summary,
    say,
    watching,
)
from ray_fer.errors import exit_on_bad_input


@exit_on_bad_input
def crossval(
    store: Store,
    output: Annotated[Path, typer.Option("--output", "-o", help="folder for trials and summary, shared by all nodes")],
    recipe: RecipeName = "cafer-small",
    settings: Settings = None,
    protocol: Annotated[
        str,
        typer.Option(
            help="folds (the dataset's own), loso (leave one subject out), fixed (train on split train, test on split "
            "test), or a number of folds to make"
        ),
    ] = "folds",
    by_subject: Annotated[
        bool, typer.Option("--by-subject", help="with a number of folds: nobody is in two of them")
    ] = False,
    only: Annotated[str | None, typer.Option(help="these folds alone, such as 2 or 1,3 (default: all)")] = None,
    seeds: Seeds = None,
    aus: Aus = None,
    priors_file: PriorsFile = None,
    paper_protocol: PaperProtocol = False,
    parallel: Parallel = None,
    keep_bundles: Annotated[bool, typer.Option("--keep-bundles", help="keep the model of every trial")] = False,
    checkpoints: Annotated[
        str | None, typer.Option(help="URL for checkpoints, in place of the trials' folders (s3://...)")
    ] = None,
    tensorboard: TensorBoard = True,
    mlflow: Mlflow = None,
    faces: Faces = True,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Cross-validate a recipe: train on all folds but one, test on that one, for every fold and seed.

    Trials run side by side over the cluster. The same command again goes on with what is not finished, so ctrl-C costs
    at most the epoch that was running. Several trials share a GPU with --set gpus_per_worker=0.25.

    The epoch of each model is chosen on a part of its training clips, of subjects of their own where they are known.
    With --paper-protocol it is chosen on the test fold, which makes figures look better than they are; the summary is
    marked with it. What is printed: mean and standard deviation over folds, and the figures of the pooled predictions
    of all folds with 95 % intervals (their macro F1 is UF1). OUTPUT/summary.json has them all, OUTPUT/seed-N/report is
    a page of them for each seed, which `ray-fer compare` puts beside published figures.

    With --only the outcome of these folds is in OUTPUT/summary-only-N.json; their trials count for all folds later.

    Examples:

    ray-fer crossval dfew-clips -o runs/dfew --recipe cafer --aus dfew-aus --set workers=4 --set gpus_per_worker=1

    ray-fer crossval casme2-clips -o runs/casme2 --protocol loso --seeds 1,2,3 --set gpus_per_worker=0.25

    ray-fer crossval ferv39k-clips -o runs/ferv39k --protocol fixed --seeds 1,2,3 --no-faces

    A trial that fails does not end the others: it is listed with its reason, and the exit code is 1.
    """
    from ray_fer.serving.local_ray import ray_session
    from ray_fer.training.crossval import cross_validate
    from ray_fer.training.crossval_plan import CrossValOptions
    from ray_fer.training.trial import TrialKeeping

    options = CrossValOptions(
        store=store, output=output, recipe=recipe, settings=tuple(settings or ()), protocol=_protocol(protocol),
        by_subject=by_subject, only=numbers(only, "folds"), seeds=numbers(seeds, "seeds"), aus=aus, priors=priors_file,
        paper_protocol=paper_protocol, faces=faces, parallel=parallel, overwrite=overwrite,
        keeping=TrialKeeping(keep_bundles, tensorboard, mlflow, checkpoints, command_line("crossval")),
    )  # fmt: skip
    options.check()
    try:
        with only_json(as_json), ray_session(), watching() as watch:
            done = cross_validate(options, watch, say)
    except KeyboardInterrupt:
        say("interrupted; trials that are finished stay, and the same command goes on with the others")
        raise
    if as_json:
        print(json.dumps(done.summary))
    else:
        print_summary(done.summary)
        print(f"summary: {options.summary}")
        for folder in done.reports.values():
            print(f"report: {folder / 'index.html'}")
    if done.failed:
        raise SystemExit(1)


def _protocol(text: str) -> str | int:
    if text in ("folds", "loso", "fixed"):
        return text
    if not text.isdecimal() or int(text) < 2:
        raise ValueError(f"unknown protocol {text!r}; expected folds, loso, fixed, or a number such as 5")
    return int(text)
