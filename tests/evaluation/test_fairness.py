"""Gaps between groups: by hand, against fairlearn, and how often their intervals and p-values are right."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from fairlearn.metrics import (
    demographic_parity_difference,
    demographic_parity_ratio,
    equalized_odds_difference,
    equalized_odds_ratio,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from ray_fer.bundle import load_bundle
from ray_fer.evaluation.evaluated import of_bundle
from ray_fer.evaluation.fairness import FairnessReport, Gap, class_gaps, fairness_report, subject_clusters
from ray_fer.evaluation.fairness_plot import fairness_figure
from ray_fer.evaluation.fairness_tests import GAPS, gap_figures, gap_intervals, gap_p_values
from ray_fer.evaluation.intervals import answer_counts
from ray_fer.evaluation.metrics import classification_metrics
from ray_fer.evaluation.predictions import Predictions
from ray_fer.evaluation.report import ReportOptions, report_content, write_report
from ray_fer.labels import EXPRESSIONS

CLASSES = ["a", "b", "c"]
FAST: dict[str, Any] = {"resamples": 200, "permutations": 199}


def table(
    truth: np.ndarray, predicted: np.ndarray, groups: list[str | None], subjects: list[str | None] | None = None,
    classes: list[str] = CLASSES, datasets: list[str] | None = None,
) -> Predictions:  # fmt: skip
    count = len(truth)
    clips = pa.table({
        "clip_id": [f"c{number}" for number in range(count)], "dataset": datasets or ["DFEW"] * count,
        "label": [classes[number] for number in truth], "culture": pa.array(groups, pa.string()),
        "subject_id": pa.array(subjects or [None] * count, pa.string()), "path": ["x.mp4"] * count,
    })  # fmt: skip
    probabilities = np.eye(len(classes), dtype=np.float32)[predicted]
    return Predictions("m 1", classes, clips, probabilities, np.zeros((count, 0), np.float32))


def of(cells: Mapping[tuple[str, int, int], int], **more: Any) -> Predictions:
    """Predictions from the number of clips of each (group, truth, predicted)."""
    groups, truth, predicted = zip(*[key for key, count in cells.items() for _ in range(count)], strict=True)
    return table(np.array(truth), np.array(predicted), list(groups), **more)


def some_answers(count: int, seed: int, groups: int = 3, worse: float = 0.0) -> tuple[np.ndarray, ...]:
    """Labels, answers and groups of `count` clips; where `worse` is 0, the group makes no difference."""
    rng = np.random.default_rng(seed)
    truth, owners = rng.choice(3, count, p=[0.5, 0.3, 0.2]), rng.integers(0, groups, count)
    right = rng.random(count) < np.where(owners == 0, 0.7 - worse, 0.7)
    return truth, np.where(right, truth, (truth + 1) % 3), owners


def found(report: FairnessReport, figure: str) -> Gap:
    gap = report.figures[figure]
    assert gap is not None
    return gap


def test_two_groups_by_hand() -> None:
    #        truth a: as a  as b    truth b: as a  as b     recall a  recall b   UAR    WAR    said a  said b
    # X                8     2               3     7          0.8       0.7      0.75   0.75    11/20    9/20
    # Y                4     6               0    10          0.4       1.0      0.70   0.70     4/20   16/20
    cells = {
        ("X", 0, 0): 8, ("X", 0, 1): 2, ("X", 1, 0): 3, ("X", 1, 1): 7,
        ("Y", 0, 0): 4, ("Y", 0, 1): 6, ("Y", 1, 1): 10,
    }  # fmt: skip
    report = fairness_report(of(cells, classes=["a", "b"]), **FAST)
    assert (report.compared, report.column, report.unknown) == (["X", "Y"], "culture", 0)
    uar = found(report, "uar")
    assert uar.gap == pytest.approx(0.05)
    assert uar.ratio == pytest.approx(0.70 / 0.75)
    assert uar.std == pytest.approx(0.05 / 2**0.5)
    assert (uar.worst, uar.of_class) == ("Y", None)
    # F1 = 2 right / (support + said). X: a 16/21, b 14/19; Y: a 8/14, b 20/26. All classes have 10 clips, so that the
    # weighted mean is the plain one.
    macro = {"X": (16 / 21 + 14 / 19) / 2, "Y": (8 / 14 + 20 / 26) / 2}
    for figure in ("macro_f1", "weighted_f1"):
        assert found(report, figure).gap == pytest.approx(macro["X"] - macro["Y"])
        assert found(report, figure).worst == "Y"
    # The shares of a differ by 7/20, and so do those of b, as there is no third class: the first by order is named.
    parity = found(report, "demographic_parity")
    assert (parity.of_class, parity.worst, parity.std) == ("a", None, None)
    assert parity.gap == pytest.approx(7 / 20)
    assert parity.ratio == pytest.approx(4 / 11)
    # Recall of a: 0.8 and 0.4; false positives of a, of the clips of b: 0.3 and 0. Those of b: 0.2 and 0.6, recall
    # 0.7 and 1.
    a, b = report.by_class["a"], report.by_class["b"]
    assert a is not None
    assert b is not None
    assert (a.predicted, a.false_positives) == ({"X": 0.55, "Y": 0.2}, {"X": 0.3, "Y": 0.0})
    assert a.equalized_odds == pytest.approx(0.4)
    assert (a.equalized_odds_by, a.false_positives_gap, a.without) == ("recall", pytest.approx(0.3), [])
    assert a.equalized_odds_ratio == 0.0
    assert (b.equalized_odds, b.equalized_odds_by) == (pytest.approx(0.4), "false positives")
    assert b.equalized_odds_ratio == pytest.approx(0.2 / 0.6)
    odds = found(report, "equalized_odds")
    assert (odds.of_class, odds.worst, odds.gap) == ("a", "Y", pytest.approx(0.4))
    json.dumps(dataclasses.asdict(report), allow_nan=False)


def test_false_positives_can_be_the_wider_gap() -> None:
    # Nobody of X is taken for a class falsely; half of the b's of Y are taken for a. Recall of b: 1 and 0.5.
    cells = {("X", 0, 0): 10, ("X", 1, 1): 10, ("Y", 0, 0): 10, ("Y", 1, 0): 6, ("Y", 1, 1): 4, ("Y", 2, 2): 2}
    gaps = class_gaps(*_one_class(of(cells), 0))
    assert (gaps.equalized_odds, gaps.equalized_odds_by) == (0.5, "false positives")
    assert gaps.false_positives == {"X": 0.0, "Y": 0.5}
    report = fairness_report(of(cells), **FAST)
    odds = found(report, "equalized_odds")
    assert (odds.of_class, odds.worst, odds.gap) == ("b", "Y", pytest.approx(0.6))


def _one_class(predictions: Predictions, number: int) -> tuple[np.ndarray, np.ndarray, list[str]]:
    return predictions.truth == number, predictions.predicted == number, predictions.column("culture")


@pytest.mark.parametrize("seed", range(4))
def test_every_class_is_as_fairlearn_has_it(seed: int) -> None:
    truth, predicted, owners = some_answers(150, seed, worse=0.2)
    report = fairness_report(table(truth, predicted, [f"g{number}" for number in owners]), minimum=1, **FAST)
    parities, odds = [], []
    for number, name in enumerate(CLASSES):
        ours = report.by_class[name]
        assert ours is not None
        vectors: dict[str, Any] = {
            "y_true": (truth == number).astype(int),
            "y_pred": (predicted == number).astype(int),
            "sensitive_features": owners,
        }
        parities.append(demographic_parity_difference(**vectors))
        odds.append(equalized_odds_difference(**vectors))
        assert ours.demographic_parity == pytest.approx(parities[-1])
        assert ours.demographic_parity_ratio == pytest.approx(demographic_parity_ratio(**vectors))
        assert ours.equalized_odds == pytest.approx(odds[-1])
        assert ours.equalized_odds_ratio == pytest.approx(equalized_odds_ratio(**vectors))
    counts = np.stack([answer_counts(truth[owners == one], predicted[owners == one], 3) for one in range(3)])
    drawn = gap_figures(counts)
    for figure, worst in (("demographic_parity", max(parities)), ("equalized_odds", max(odds))):
        assert found(report, figure).gap == pytest.approx(worst)
        assert drawn[figure] == pytest.approx(worst), "what is drawn and exchanged is the same figure"
    for figure in GAPS:
        assert drawn[figure] == pytest.approx(found(report, figure).gap)


def test_a_group_without_a_class_has_no_recall_of_it() -> None:
    # Recall of c: X 0.5, Y 0.75, Z has none of it. fairlearn counts Z's recall as 0, and so a gap of 0.75.
    cells = {
        ("X", 2, 2): 5,
        ("X", 2, 0): 5,
        ("X", 0, 0): 9,
        ("Y", 2, 2): 9,
        ("Y", 2, 0): 3,
        ("Y", 0, 0): 9,
        ("Z", 0, 0): 20,
    }
    predictions = of(cells)
    truth, predicted, owners = _one_class(predictions, 2)
    assert equalized_odds_difference(truth, predicted, sensitive_features=owners) == pytest.approx(0.75)
    report = fairness_report(predictions, **FAST)
    c, b = report.by_class["c"], report.by_class["b"]
    assert c is not None
    assert b is not None
    assert (c.equalized_odds, c.equalized_odds_ratio, c.without) == (0.25, pytest.approx(0.5 / 0.75), ["Z"])
    assert (report.recall_gap["c"], report.recall_support["c"]) == (0.25, 10)
    # Nobody has b, and nobody is taken for it.
    assert (b.without, b.equalized_odds, b.equalized_odds_by) == (["X", "Y", "Z"], 0.0, "false positives")
    assert (b.demographic_parity, b.demographic_parity_ratio, b.equalized_odds_ratio) == (0.0, None, None)
    # False positives of a: 5 of X's 10 c, 3 of Y's 12; Z has a only, and so no clip that could be taken for it falsely.
    a = report.by_class["a"]
    assert a is not None
    assert a.false_positives == {"X": 0.5, "Y": 0.25, "Z": None}
    json.dumps(dataclasses.asdict(report), allow_nan=False)


def test_groups_that_have_no_class_in_common() -> None:
    report = fairness_report(of({("X", 0, 0): 12, ("Y", 1, 1): 10, ("Y", 1, 0): 2}, classes=["a", "b"]), **FAST)
    a = report.by_class["a"]
    assert a is not None
    assert (a.equalized_odds, a.equalized_odds_by, a.false_positives_gap) == (None, None, None)
    assert report.figures["equalized_odds"] is None
    assert found(report, "demographic_parity").gap == pytest.approx(1 - 2 / 12)


def test_small_and_unknown_groups_stay_out_by_name() -> None:
    cells: dict[tuple[str, int, int], int] = {("X", 0, 0): 12, ("Y", 0, 0): 9, ("Y", 0, 1): 3}
    plain = fairness_report(of(cells), **FAST)
    more = cells | {("Z", 0, 1): 9, ("Unknown", 0, 1): 30}
    report = fairness_report(of(more), **FAST)
    assert (report.compared, report.few, report.unknown) == (["X", "Y"], ["Z"], 30)
    assert report.figures == plain.figures
    assert found(report, "war").gap == 0.25
    assert report.clusters == {"X": 12, "Y": 12}
    groups: list[str | None] = [None if name == "Unknown" else name for name in of(more).column("culture")]
    assert fairness_report(table(of(more).truth, of(more).predicted, groups), **FAST) == report


@pytest.mark.parametrize("cells", [{("X", 0, 0): 20}, {("X", 0, 0): 9, ("Y", 0, 1): 9}, {("Unknown", 0, 0): 20}])
def test_fewer_than_two_groups(cells: dict[tuple[str, int, int], int]) -> None:
    report = fairness_report(of(cells), **FAST)
    assert report.figures == dict.fromkeys(GAPS)
    assert report.by_class == dict.fromkeys(CLASSES)
    assert report.war_gap is None
    json.dumps(dataclasses.asdict(report), allow_nan=False)


def test_equal_groups_have_p_values_that_are_spread_out() -> None:
    """Of 40 test sets whose groups are equal, two are expected below 0.05, and 20 below 0.5."""
    p_values = [gap_p_values(*some_answers(120, seed), 3, permutations=199, seed=seed) for seed in range(40)]
    for figure in GAPS:
        values = np.array([one[figure] for one in p_values])
        assert (values <= 0.05).sum() <= 6, figure  # more than 6 of 40 has a chance of 0.3 %
        assert 9 <= (values <= 0.5).sum() <= 31, figure
        assert values.min() >= 1 / 200


def test_a_planted_gap_is_found() -> None:
    truth, predicted, owners = some_answers(600, seed=1, worse=0.3)
    report = fairness_report(table(truth, predicted, [f"g{number}" for number in owners]), **FAST)
    for figure in ("uar", "war", "macro_f1", "weighted_f1", "equalized_odds"):
        gap = found(report, figure)
        assert gap.p <= (0.05 if figure == "equalized_odds" else 1 / 200), figure
        assert gap.interval is not None
        assert 0.05 < gap.interval[0] < gap.gap < gap.interval[1], figure
        assert gap.worst == "g0"
    # In a fair world the interval of a gap does not reach 0 either: it leans upwards, and is no test.
    truth, predicted, owners = some_answers(600, seed=1)
    fair = fairness_report(table(truth, predicted, [f"g{number}" for number in owners]), **FAST)
    gap = found(fair, "war")
    assert gap.interval is not None
    assert gap.interval[0] > 0
    assert gap.p > 0.05


def test_persons_who_are_read_well_or_badly() -> None:
    """40 persons of 10 clips, 20 of each group; a person is read well (all right) or badly (none), by a coin."""
    subjects, truth = np.repeat(np.arange(40), 10), np.zeros(400, int)
    groups = subjects % 2
    low = {"clip": 0, "subject": 0}
    for seed in range(20):
        well = np.random.default_rng(seed).random(40) < 0.5
        predicted = np.where(well[subjects], 0, 1)
        widths = {}
        for unit, clusters in (("clip", None), ("subject", subjects)):
            intervals = gap_intervals(truth, predicted, groups, 2, clusters, resamples=200)
            assert intervals is not None
            widths[unit] = intervals["war"].high - intervals["war"].low
            p = gap_p_values(truth, predicted, groups, 2, clusters, permutations=99, seed=seed)["war"]
            low[unit] += p <= 0.05
        assert widths["subject"] > 1.5 * widths["clip"]
    assert low["clip"] >= 8, "taken to be independent, the clips find gaps where there is none"
    assert low["subject"] <= 4


def test_clips_without_a_subject_stand_for_themselves() -> None:
    subjects = ["s1", None, "s1", "s2", None, "s2", "s2", "s3"] * 3
    datasets = ["DFEW"] * 8 + ["FERV39k"] * 16
    given = table(np.zeros(24, int), np.zeros(24, int), ["X", "Y"] * 12, subjects, datasets=datasets)
    clusters, alone = subject_clusters(given)
    assert alone == 6
    assert len(np.unique(clusters)) == 6 + 3 + 3  # s1 of one dataset is not s1 of the other
    assert clusters[0] == clusters[2] != clusters[8] == clusters[16]
    report = fairness_report(given, **FAST)
    # Of each eight clips X has those of s1, one of nobody and one of s2, Y one of nobody, two of s2 and one of s3. DFEW
    # has eight, FERV39k twice eight of the same three persons.
    assert report.clusters == {"X": (2 + 1) + (2 + 2), "Y": (2 + 1) + (2 + 2)}
    assert (report.without_subject, report.divided) == (6, 2)  # s2 of each dataset is in both groups


def test_one_person_only_has_no_interval() -> None:
    subjects: list[str | None] = ["s1"] * 12 + [f"t{number}" for number in range(12)]
    answers = np.array([0] * 9 + [1] * 3 + [0] * 12)
    report = fairness_report(table(np.zeros(24, int), answers, ["X"] * 12 + ["Y"] * 12, subjects), **FAST)
    assert found(report, "war").interval is None
    assert found(report, "war").gap == 0.25
    assert report.clusters == {"X": 1, "Y": 12}


def test_groups_are_exchanged_within_a_dataset() -> None:
    """In each dataset the groups are read alike, but one dataset is hard and has most of one group."""
    rng = np.random.default_rng(0)
    hard = np.repeat([True, False], 200)
    groups = np.where(rng.random(400) < np.where(hard, 0.9, 0.1), "X", "Y")
    predicted = (rng.random(400) < np.where(hard, 0.6, 0.1)).astype(int)
    datasets = ["hard" if one else "easy" for one in hard]
    given = table(np.zeros(400, int), predicted, list(groups), datasets=datasets)
    assert found(fairness_report(given, **FAST), "war").p == 1 / 200
    assert found(fairness_report(given, within="dataset", **FAST), "war").p > 0.05
    # Where each stratum is a group, nothing can be exchanged.
    assert found(fairness_report(given, within="culture", **FAST), "war").p == 1.0


@settings(deadline=None, max_examples=40)
@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2), st.integers(-1, 2)), min_size=2, max_size=40),
    st.permutations(range(4)),
)
def test_gaps_are_shares_and_know_no_names(rows: list[tuple[int, int, int]], renamed: list[int]) -> None:
    owners, truth, predicted = np.array(rows).T
    names = np.unique(owners)
    counts = np.stack([answer_counts(truth[owners == one], predicted[owners == one], 3) for one in names])
    gaps = gap_figures(counts)
    order = np.argsort(np.array(renamed)[names])
    for figure in GAPS:
        assert 0 <= gaps[figure] <= 1
        assert gap_figures(counts[order])[figure] == pytest.approx(gaps[figure])
        assert len(names) > 1 or gaps[figure] == 0
    weighted = [
        classification_metrics(truth[owners == one], predicted[owners == one], CLASSES)["weighted_f1"] for one in names
    ]
    assert gaps["weighted_f1"] == pytest.approx(np.ptp(weighted))


def test_the_seed_decides() -> None:
    truth, predicted, owners = some_answers(90, seed=3)
    given = table(truth, predicted, [f"g{number}" for number in owners])
    first = fairness_report(given, **FAST, seed=5)
    assert fairness_report(given, **FAST, seed=5) == first
    assert fairness_report(given, **FAST, seed=6) != first


def test_ten_thousand_clips_take_seconds() -> None:
    rng = np.random.default_rng(0)
    truth, predicted, owners = rng.integers(0, 7, 10_000), rng.integers(-1, 7, 10_000), rng.integers(0, 4, 10_000)
    start = time.process_time()
    p_values = gap_p_values(truth, predicted, owners, 7, rng.integers(0, 3000, 10_000), permutations=500)
    assert time.process_time() - start < 5
    assert set(p_values) == set(GAPS)


def test_bad_input() -> None:
    given = of({("X", 0, 0): 12, ("Y", 0, 1): 12})
    with pytest.raises(ValueError, match="unknown column of predictions 'race'; expected one of clip_id, dataset"):
        fairness_report(given, "race")
    with pytest.raises(ValueError, match="unknown column of predictions 'race'; expected one of clip_id, dataset"):
        fairness_report(given, within="race")
    with pytest.raises(ValueError, match="0 permutations; use 2000"):
        fairness_report(given, resamples=10, permutations=0)
    with pytest.raises(ValueError, match="no labelled clip"):
        fairness_report(given.select(np.array([], int)))
    one = np.zeros(4, int)
    for tested in (gap_intervals, gap_p_values):
        with pytest.raises(ValueError, match="two groups or more"):
            tested(one, one, one, 2)


def many(groups: list[str]) -> Predictions:
    """63 clips of seven classes and 21 persons, dealt out to `groups`; a third of the first group's are wrong."""
    truth = np.arange(63) % 7
    subjects: list[str | None] = [f"s{number}" for number in np.arange(63) // 3]
    owners: list[str | None] = [groups[number // 3 % len(groups)] for number in range(63)]
    wrong = (np.arange(63) % 3 == 0) & (np.array(owners) == groups[0])
    return table(truth, np.where(wrong, (truth + 1) % 7, truth), owners, subjects, classes=list(EXPRESSIONS))


def test_the_page_and_the_picture(tiny_bundle: Path, tmp_path: Path) -> None:
    about = of_bundle(load_bundle(tiny_bundle))
    predictions = many(["A", "B", "Unknown"])
    page = write_report(about, predictions, None, tmp_path / "two")
    fairness = json.loads((page.parent / "report.json").read_text())["fairness"]
    assert fairness["culture"] == dataclasses.asdict(fairness_report(predictions))
    assert fairness["dataset"]["figures"]["war"] is None
    assert (page.parent / "culture.png").read_bytes().startswith(b"\x89PNG")
    text = " ".join(page.read_text().replace("\N{NO-BREAK SPACE}", " ").split())
    for words in (
        "How far apart, and how sure", "Class by class", "How to read the gaps",
        "<td>Demographic parity</td><td> ", "Compared are A (7 persons), B (7 persons).",
        "Left out are 21 clips of no known culture.", "2,000 draws of persons within each group",
    ):  # fmt: skip
        assert words in text, words
    page = write_report(about, many(["A"]), None, tmp_path / "one")
    text = page.read_text()
    assert "All clips are of one culture: A." in text
    assert "How to read the gaps" not in text
    assert not (page.parent / "culture.png").exists()


def test_the_chart_has_bars_above_and_recall_below(tiny_bundle: Path) -> None:
    content = report_content(of_bundle(load_bundle(tiny_bundle)), many(["A", "B"]), ReportOptions())
    groups, gaps = content["groups"]["culture"], content["fairness"]["culture"]["recall_gap"]
    groups["B"]["recall"]["Sad"], groups["B"]["few"] = None, True
    gaps["Sad"] = None
    figure = fairness_figure(groups, list(EXPRESSIONS), gaps)
    bars, heat, _ = figure.axes
    assert [label.get_text() for label in heat.get_xticklabels()] == ["A", "B\n(few)", "gap"]
    assert [label.get_text() for label in heat.get_yticklabels()] == list(EXPRESSIONS)
    assert len(bars.patches) == 4
    shown = [text.get_text() for text in heat.texts]
    sad = EXPRESSIONS.index("Sad") * 5
    assert shown[:5] == [
        f"{100 * groups['A']['recall']['Angry']:.0f}", f"of {groups['A']['support']['Angry']}",
        f"{100 * groups['B']['recall']['Angry']:.0f}", f"of {groups['B']['support']['Angry']}",
        f"{100 * gaps['Angry']:.0f}",
    ]  # fmt: skip
    assert shown[sad + 2 : sad + 5 : 2] == ["–", "–"]
