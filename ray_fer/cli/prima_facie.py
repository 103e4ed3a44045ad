"""`jobs/prima_facie.py`: EthnicMER's study of mono-ethnic and mixed groups (Table IV)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from ray_fer.cli.options import AsJson
from ray_fer.cli.trials import Store, only_json
from ray_fer.errors import exit_on_bad_input


@exit_on_bad_input
def prima_facie(
    store: Store,
    output: Annotated[Path, typer.Option("--output", "-o", help="folder for the table, the picture and the figures")],
    pretrained: Annotated[
        Path | None,
        typer.Option(help="torchvision's resnet18-f37072fd.pth (ImageNet), as in the paper; random weights without it"),
    ] = None,
    groups: Annotated[
        str | None, typer.Option(help="the two cultures to compare, such as Asian,Non-Asian (default: those there are)")
    ] = None,
    negative: Annotated[str, typer.Option(help="label that is told from all others")] = "Negative",
    subjects: Annotated[int, typer.Option(help="subjects of each draw; half of them from each group when mixed")] = 16,
    draws: Annotated[int, typer.Option(min=1, help="how often subjects are drawn; the paper did once")] = 100,
    trees: Annotated[int, typer.Option(min=1, help="of each random forest")] = 100,
    seed: Annotated[int, typer.Option(help="of the first draw; the next ones count on")] = 0,
    as_json: AsJson = False,
) -> None:
    """Compare people of one group, of the other, and of both, leaving one subject out at a time (EthnicMER, Table IV).

    ResNet-18's features of optical flow images and a random forest tell negative clips from others; subjects are drawn
    many times over the cluster, where the paper drew once. The clip store needs flow (`ray-fer preprocess --flow
    tvl1`), subjects and two cultures:

    ray job submit --working-dir . -- python jobs/prima_facie.py micro-clips --pretrained resnet18-f37072fd.pth -o study
    """
    from rich.progress import Progress

    from ray_fer.evaluation.prima_facie_report import markdown, write_study
    from ray_fer.evaluation.prima_facie_run import StudyOptions, study
    from ray_fer.serving.local_ray import ray_session

    chosen = tuple(one.strip() for one in groups.split(",")) if groups else ()
    options = StudyOptions(store, pretrained, chosen, negative, subjects, draws, seed, trees)
    options.check()
    with only_json(as_json), ray_session(), Progress(transient=True) as bar:
        task = bar.add_task("draws", total=draws)
        content = study(options, lambda done, _: bar.update(task, completed=done))
    files = write_study(output, content)
    if as_json:
        print(json.dumps(content))
        return
    print(markdown(content))
    for file in files:
        print(file)
