"""Figures per culture and dataset: by hand, and EiLA's published table."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ray_fer.evaluation.groups import GroupFigures, fairness, group_figures, group_report
from ray_fer.evaluation.metrics import classification_metrics
from ray_fer.evaluation.predictions import Predictions

CLASSES = ["a", "b"]


def of(cells: dict[tuple[str, int, int], int], minimum: int = 10) -> list[GroupFigures]:
    """Groups from the number of clips of each (group, truth, predicted)."""
    owners, truth, predicted = zip(*[key for key, count in cells.items() for _ in range(count)], strict=True)
    return group_figures(np.array(truth), np.array(predicted), owners, CLASSES, minimum)


def test_two_cultures_by_hand() -> None:
    #             a right  wrong   b right  wrong    recall a  recall b   UAR    WAR
    # African        16      4        1       3        0.80      0.25    0.525  17/24
    # Caucasian       6      4        8       2        0.60      0.80    0.700  14/20
    groups = of({
        ("Caucasian", 0, 0): 6, ("Caucasian", 0, 1): 4, ("Caucasian", 1, 1): 8, ("Caucasian", 1, 0): 2,
        ("African", 0, 0): 16, ("African", 0, 1): 4, ("African", 1, 1): 1, ("African", 1, 0): 3,
    })  # fmt: skip
    assert [(group.name, group.count) for group in groups] == [("African", 24), ("Caucasian", 20)]
    assert not any(group.few for group in groups)
    # As in the CA-FER paper the African group is good at the frequent class only: that shows as a UAR-WAR gap.
    assert [group.uar_war_gap for group in groups] == pytest.approx([17 / 24 - 0.525, 0.0])
    result = fairness(groups)
    assert result.compared == ["African", "Caucasian"]
    assert result.war_gap == pytest.approx(17 / 24 - 0.7)
    assert result.uar_gap == pytest.approx(0.175)
    assert (result.worst_war, result.worst_uar) == ("Caucasian", "African")
    # The deviation of two values with divisor 1 is their distance over the root of 2.
    assert result.war_std == pytest.approx((17 / 24 - 0.7) / 2**0.5)
    assert result.recall_gap == pytest.approx({"a": 0.2, "b": 0.55})
    assert result.recall_support == {"a": 10, "b": 4}
    json.dumps(dataclasses.asdict(result))


@pytest.mark.parametrize(
    ("accuracies", "deviation"),
    [((36.8, 31.1, 26.6), 5.14), ((38.7, 25.9, 25.0), 7.65), ((58.9, 34.5, 45.3), 12.2), ((42.3, 35.5, 35.9), 3.81)],
)
def test_standard_deviations_of_the_eila_paper(accuracies: tuple[float, ...], deviation: float) -> None:
    """Table 6: accuracy of Black, White and Mixed, and "%Std", as printed (its own inputs are rounded to 0.1)."""
    races = dict(zip(("Black", "White", "Mixed"), [round(10 * value) for value in accuracies], strict=True))
    cells = {}
    for race, right in races.items():
        cells |= {(race, 0, 0): right, (race, 0, 1): 1000 - right}
    result = fairness(of(cells))
    assert result.war_std is not None
    assert 100 * result.war_std == pytest.approx(deviation, abs=0.04)
    assert result.worst_war == min(races, key=races.__getitem__)
    assert result.war_gap == pytest.approx((max(accuracies) - min(accuracies)) / 100)


def test_a_group_of_few_clips_is_listed_and_flagged_and_not_compared() -> None:
    cells = {("African", 0, 0): 12, ("Caucasian", 0, 0): 9, ("Caucasian", 0, 1): 3, ("South Asian", 0, 1): 9}
    groups = of(cells)
    assert [(group.name, group.count, group.few) for group in groups] == [
        ("African", 12, False), ("Caucasian", 12, False), ("South Asian", 9, True)
    ]  # fmt: skip
    assert groups[2].metrics["war"] == 0.0
    assert fairness(groups).compared == ["African", "Caucasian"]
    assert fairness(groups).war_gap == 0.25
    assert fairness(of(cells, minimum=1)).war_gap == 1.0


def test_clips_of_no_known_culture_are_no_group() -> None:
    groups = of({("Unknown", 0, 1): 50, ("South Asian", 0, 0): 10, ("African", 0, 0): 10})
    assert [group.name for group in groups] == ["African", "South Asian", "Unknown"]
    assert fairness(groups).compared == ["African", "South Asian"]
    assert fairness(groups).war_gap == 0.0


def test_one_group_has_nothing_to_be_compared_with() -> None:
    result = fairness(of({("African", 0, 0): 20}))
    assert (result.war_gap, result.uar_gap, result.worst_war, result.war_std) == (None, None, None, None)
    assert result.recall_gap == {"a": None, "b": None}
    assert fairness([]).compared == []


def test_a_class_is_compared_where_it_occurs() -> None:
    groups = of({("A", 0, 0): 10, ("B", 0, 0): 5, ("B", 0, 1): 5, ("B", 1, 1): 10, ("C", 0, 0): 10})
    result = fairness(groups)
    assert result.recall_gap == {"a": 0.5, "b": None}
    assert result.recall_support == {"a": 10, "b": 0}


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from("ABC"), st.integers(0, 1), st.integers(-1, 1)), min_size=1, max_size=60))
def test_war_of_all_is_the_mean_of_the_groups_weighted_by_their_clips(rows: list[tuple[str, int, int]]) -> None:
    owners, truth, predicted = zip(*rows, strict=True)
    groups = group_figures(np.array(truth), np.array(predicted), owners, CLASSES)
    pooled = classification_metrics(np.array(truth), np.array(predicted), CLASSES)
    counts = [group.count for group in groups]
    assert sum(counts) == pooled["count"]
    assert np.average([group.metrics["war"] for group in groups], weights=counts) == pytest.approx(pooled["war"])
    assert np.sum([group.metrics["confusion"] for group in groups], axis=0).tolist() == pooled["confusion"]
    again = group_figures(np.array(truth)[::-1], np.array(predicted)[::-1], owners[::-1], CLASSES)
    assert again == groups


def table(cultures: list[str], datasets: list[str], subjects: list[str | None]) -> Predictions:
    count = len(cultures)
    clips = pa.table({
        "clip_id": [f"c{number}" for number in range(count)], "dataset": datasets, "label": ["a"] * count,
        "culture": cultures, "subject_id": pa.array(subjects, pa.string()), "path": ["x.mp4"] * count,
    })  # fmt: skip
    probabilities = np.tile(np.array([[0.75, 0.25]], np.float32), (count, 1))
    return Predictions("m 1", CLASSES, clips, probabilities, np.zeros((count, 0), np.float32))


def test_any_column_of_predictions() -> None:
    predictions = table(["African", "African", "Unknown"], ["dfew", "gcc_fer", "dfew"], ["s1", None, "s1"])
    report = group_report(predictions)
    assert report.column == "culture"
    assert [(group.name, group.count) for group in report.groups] == [("African", 2), ("Unknown", 1)]
    report = group_report(predictions, "dataset", minimum=1)
    assert [(group.name, group.count) for group in report.groups] == [("dfew", 2), ("gcc_fer", 1)]
    assert report.fairness.war_gap == 0.0
    assert [group.name for group in group_report(predictions, "subject_id").groups] == ["s1", "Unknown"]


def test_bad_input() -> None:
    with pytest.raises(ValueError, match="unknown column of predictions 'race'; expected one of clip_id, dataset"):
        group_report(table(["African"], ["dfew"], [None]), "race")
    with pytest.raises(ValueError, match="no labelled clip"):
        group_report(table([], [], []))
    with pytest.raises(ValueError, match="2 labels but 1 clips with a group"):
        group_figures(np.array([0, 1]), np.array([0, 1]), ["African"], CLASSES)
