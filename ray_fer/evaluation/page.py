"""The page of a report: one HTML file that needs nothing else, neither a network nor a script.

What stands in `templates/report.html` is the page's form and its fixed words; here are the words that depend on the
figures. Everything from outside (names of clips and classes, the model card) is escaped.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache, partial
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markdown_it import MarkdownIt
from markupsafe import Markup

import ray_fer
from ray_fer.evaluation.evaluated import LAST, VALIDATION, Evaluated
from ray_fer.evaluation.groups import FEW
from ray_fer.evaluation.plots import Picture

_FIGURES = {"uar": "UAR", "war": "WAR", "macro_f1": "Macro F1"}
_CHANCE = 0.05
_PROTOCOLS = {"fixed": "fixed split", "loso": "leave one subject out"}
_SELECTIONS = {VALIDATION: "epoch chosen on validation clips", LAST: "last epoch of training"}


@dataclass(frozen=True)
class Shown:
    """A clip that is shown: `about` has clip_id, dataset, culture, truth, predicted and probability."""

    about: Mapping[str, Any]
    picture: Picture | None


@dataclass
class Gallery:
    """Clips, or the reason why there is none or why they have no pictures."""

    reason: str
    method: str = ""
    trunk: str = ""
    """Which of a model's `trunks` was looked into."""
    still: bool = False
    """Whether a clip has one picture, and no strip of several."""
    shown: list[Shown] = field(default_factory=list)


def render_page(
    about: Evaluated,
    content: Mapping[str, Any],
    charts: Mapping[str, Picture | str],
    galleries: Mapping[str, Gallery],
    command: str | None = None,
) -> str:
    """The page. `content` is report.json, `charts` as `plots.report_charts` makes them; of `galleries` there are
    "saliency" and "mistakes". `command` makes the report again.
    """
    pictures = {name: one for name, one in charts.items() if isinstance(one, Picture)}
    name = f"{content['model']['name']} {content['model']['version']}".strip()
    protocol = content["protocol"]
    return _environment().get_template("report.html").render(
        name=name,
        content=content,
        figures=_FIGURES,
        protocol=_PROTOCOLS.get(protocol["name"], protocol["name"]),
        selection=_SELECTIONS.get(protocol["selection"], f"epoch chosen on the {protocol['selection']}"),
        optimistic=protocol["selection"].startswith("test"),
        chance=1 / len(content["classes"]),
        summary=summary_words(content),
        sure=calibration_words(content),
        fairness={column: fairness_words(content, column) for column in content["groups"]},
        few=FEW,
        steepness=landscape_words(content["landscape"]) if "landscape" in content else "",
        pictures=pictures,
        reasons={name: one for name, one in charts.items() if isinstance(one, str)},
        galleries=galleries,
        faces=any(one.picture for gallery in galleries.values() for one in gallery.shown)
        or content.get("activation_maps", {}).get("faces", False),
        trained=_training_rows(about),
        recipe=_recipe_rows(about.config.recipe or {}),
        caveats=_markdown(about.caveats),
        again=about.command,
        command=command or f"ray-fer evaluate {about.config.name} CLIPS -o REPORT",
        citation=_citation(name, content),
        version=ray_fer.__version__,
    )  # fmt: skip


def summary_words(content: Mapping[str, Any]) -> str:
    """What the figures say in a sentence or two."""
    metrics, classes = content["metrics"], content["classes"]
    right = sum(metrics["confusion"][place][place] for place in range(len(classes)))
    words = f"{right} of {metrics['count']} clips are recognised."
    known = {name: value for name, value in metrics["recall"].items() if value is not None}
    if len(known) > 1:
        best, worst = max(known, key=lambda name: known[name]), min(known, key=lambda name: known[name])
        if known[best] > known[worst]:
            words += (
                f" The best recognised class is {best} ({_share(known[best])}), the hardest {worst} "
                f"({_share(known[worst])})."
            )
    apart = [
        (count, -row, -column)
        for row, counts in enumerate(metrics["confusion"])
        for column, count in enumerate(counts)
        if row != column and count
    ]
    if apart:
        count, row, column = max(apart)
        words += f" The most frequent confusion: {classes[-row]} taken for {classes[-column]}, {_clips(count)}."
    return words


def calibration_words(content: Mapping[str, Any]) -> str:
    """How the mean confidence compares with the accuracy."""
    bins = [one for one in content["calibration"]["bins"] if one["count"]]
    confidence = sum(one["confidence"] * one["count"] for one in bins) / content["calibration"]["count"]
    accuracy = content["metrics"]["war"]["value"]
    how = "surer than it may be" if confidence > accuracy else "less sure than it could be"
    words = f"On average it says {_share(confidence)} and gets {_share(accuracy)} right"
    return f"{words}." if abs(confidence - accuracy) < 0.02 else f"{words}: it is {how}."


def fairness_words(content: Mapping[str, Any], column: str) -> list[str]:
    """Sentences on how far apart the groups of a column are, and on how much that can be trusted."""
    fairness, groups = content["fairness"][column], content["groups"][column]
    compared, few = fairness["compared"], [name for name, one in groups.items() if one["few"]]
    words = []
    if len(compared) < 2:
        words.append(f"Fewer than two groups of {FEW} clips or more: there is nothing to compare.")
    else:
        for figure in ("war", "uar"):
            worst = fairness[f"worst_{figure}"]
            best = max(compared, key=lambda name: groups[name][figure])
            words.append(
                f"{_FIGURES[figure]} differs by {_percent(fairness[f'{figure}_gap'])} points: lowest in {worst} "
                f"({_share(groups[worst][figure])}), highest in {best} ({_share(groups[best][figure])}). "
                f"{_how_sure(fairness['figures'][figure])}"
            )
        words.append(
            f"The standard deviation of the groups' WAR is {_percent(fairness['war_std'])} points (EiLA's %Std)."
        )
        gaps = {name: gap for name, gap in fairness["recall_gap"].items() if gap is not None}
        if gaps:
            widest = max(gaps, key=lambda name: gaps[name])
            words.append(
                f"Class by class (equal opportunity), recall differs most for {widest}, by {_percent(gaps[widest])} "
                f"points; the group that has fewest clips of it has {fairness['recall_support'][widest]}."
            )
    if few:
        words.append(f"Too few clips to conclude from (fewer than {FEW}), and not compared: {', '.join(few)}.")
    return words


def _how_sure(gap: Mapping[str, Any]) -> str:
    """One of `fairness.Gap`, in words."""
    if gap["interval"] is None:
        return "How sure that is cannot be said: a group has clips of one subject only."
    return f"Were the people given other groups by chance, gaps as wide would {_often(gap['p'])} (p = {gap['p']:.3f})."


def _often(p: float) -> str:
    return "seldom come about" if p < _CHANCE else "often come about"


def landscape_words(landscape: Mapping[str, Any]) -> str:
    """How steep it is, in a sentence or two; `landscape` is the part of that name of report.json."""
    sharpness = landscape["sharpness"]
    words = f"The trained weights have a loss of {_nats(sharpness['centre'])} nats."
    for one in sharpness["within"]:
        if one["points"]:
            words += (
                f" At most {one['radius']:g} away from them it is {_nats(one['largest'])} at worst "
                f"({_nats(one['rise'], '+')})."
            )
    if landscape["not_finite"]:
        share = f"{landscape['not_finite']} of {landscape['points'] ** 2}"
        words += f" At {share} points of the grid the loss is not finite, as answers overflow."
    return words


def _training_rows(about: Evaluated) -> list[tuple[str, str]]:
    metrics, rows = about.metrics, [("Model", about.config.model)]
    if "parameters" in metrics:
        rows.append(("Parameters", f"{metrics['parameters']:,}"))
    if "clips" in metrics:
        rows.append(("Clips", ", ".join(f"{count:,} {split}" for split, count in metrics["clips"].items())))
    if "training_seconds" in metrics:
        rows.append(("Duration", f"{metrics['training_seconds']:.0f} s"))
    if metrics.get("ended"):
        rows.append(("Ended by", str(metrics["ended"])))
    if "versions" in metrics:
        rows.append(("Versions", ", ".join(f"{name} {version}" for name, version in metrics["versions"].items())))
    return rows


def _recipe_rows(recipe: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [(name.rstrip("_"), _plain(value)) for name, value in recipe.items()]


def _plain(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_plain(one)}" for name, one in value.items()) or "none"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_plain, value))}]" if value else "none"
    if value is None or isinstance(value, bool):
        return {None: "none", True: "yes", False: "no"}[value]
    return f"{value:g}" if isinstance(value, float) else str(value)


def _markdown(text: str) -> Markup:
    """Markdown as HTML. Raw HTML stays text, and images are left out: they would be fetched."""
    return Markup(MarkdownIt("commonmark", {"html": False}).enable("table").disable("image").render(text))


def _citation(name: str, content: Mapping[str, Any]) -> str:
    data = " + ".join(content["datasets"])
    return (
        "@software{ray_fer,\n  author  = {{The ray_fer authors}},\n"
        "  title   = {{ray_fer: distributed dynamic facial expression recognition}},\n"
        f"  version = {{{ray_fer.__version__}}},\n  note    = {{Model {name}, evaluated on {data}}}\n}}"
    )


def _percent(share: float | None, digits: int = 1) -> str:
    return "–" if share is None else f"{100 * share:.{digits}f}"


def _share(share: float, digits: int = 1) -> str:
    return f"{_percent(share, digits)}\N{NO-BREAK SPACE}%"


def _ratio(value: float | None, sign: str = "") -> str:
    return "–" if value is None else f"{value:{sign}.2f}"


def _nats(loss: float | str, sign: str = "") -> str:
    """A loss of report.json; what is not finite is a text there."""
    return "not finite" if isinstance(loss, str) else f"{loss:{sign}.3f}"


def _clips(count: int) -> str:
    return f"{count:,} clip{'' if count == 1 else 's'}"


def _data_uri(picture: Picture) -> str:
    kind = "png" if picture.file.endswith(".png") else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(picture.data).decode()}"


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("ray_fer.evaluation"), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    environment.filters |= {"percent": _percent, "share": _share, "clips": _clips, "data_uri": _data_uri}
    environment.filters |= {"ratio": _ratio, "signed": partial(_ratio, sign="+")}
    return environment
