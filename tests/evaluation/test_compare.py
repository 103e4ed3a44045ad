"""Comparison of reports: what shares a block, and what is said about what does not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ray_fer.evaluation.compare import Report, compare, read_report
from ray_fer.evaluation.tables import SYNTHETIC, Comparison, render
from ray_fer.labels import EXPRESSIONS, MICRO_EXPRESSIONS
from tests.evaluation_reports import folds, report


def models(made: Comparison, label: str) -> list[str]:
    """First column of the block of that label."""
    return [str(row["Model"].text) for block in made.blocks if block.label == label for row in block.rows]


def labels(made: Comparison) -> list[str]:
    return [block.label for block in made.blocks]


def said(made: Comparison, *parts: str) -> bool:
    """Whether one note has all the parts."""
    return any(all(part in note for part in parts) for note in made.notes)


def test_reports_of_one_protocol_share_a_block_and_the_published_have_their_own() -> None:
    (made,) = compare([report("a"), report("b", uar=0.63)])
    assert labels(made) == ["dfew, 5-fold", "dfew, 5-fold: published"]
    assert models(made, "dfew, 5-fold") == ["a 1", "b 1"]
    beside = models(made, "dfew, 5-fold: published")
    assert {"HDF", "CA-FER", "Former-DFER"} <= set(beside)
    assert beside[-1] == "S2D"  # by UAR
    assert len(compare([report()], published=False)[0].blocks) == 1


def test_what_was_measured_on_one_fold_is_left_out_and_said() -> None:
    (made,) = compare([report()])
    assert "OUS" not in models(made, "dfew, 5-fold: published")
    assert said(made, "left out is OUS, measured on fold 3 of 5")


def test_ablations_are_shown_beside_the_model_that_they_are_of() -> None:
    ablation = "CA-FER, global prior"
    (made,) = compare([report()])
    assert ablation in models(made, "dfew, 5-fold: published")
    (made,) = compare([report(model={"name": "hdf-dfew", "registry": "hdf"})])
    assert ablation not in models(made, "dfew, 5-fold: published")


def test_another_protocol_has_nothing_published_beside_it() -> None:
    (made,) = compare([report(protocol="fixed")])
    assert labels(made) == ["dfew, fixed"]
    assert said(made, "dfew, fixed: published figures are under 5-fold", "none is beside it")
    assert said(compare([report(dataset="mafw")])[0], "nothing is published on it")


def test_reports_under_two_protocols_are_in_two_blocks_with_a_note() -> None:
    (made,) = compare([report("a"), report("b", protocol="fixed")], published=False)
    assert labels(made) == ["dfew, 5-fold", "dfew, fixed"]
    assert said(made, "dfew is measured under 5-fold and fixed", "do not compare")
    assert said(made, "compare within a block only")


def test_reports_with_other_classes_are_in_two_blocks_with_a_note() -> None:
    six = tuple(name for name in EXPRESSIONS if name != "Disgust")
    (made,) = compare([report("a"), report("b", classes=six)])
    assert labels(made) == ["dfew, 5-fold", "dfew, 5-fold: published", "dfew, 5-fold"]
    assert said(made, "different classes", "Angry, Disgust, Fear", "Angry, Fear, Happy")
    assert said(made, "published figures have other classes")


def test_the_order_of_classes_and_datasets_does_not_matter() -> None:
    (made,) = compare([report("a"), report("b", dataset="DFEW", classes=EXPRESSIONS[::-1])], published=False)
    assert len(made.blocks) == 1


def test_other_numbers_of_clips_are_said() -> None:
    (made,) = compare([report("a"), report("b", count=500)])
    assert said(made, "Not the same clips", "a 1 11697, b 1 500")
    assert said(made, "b 1: 500 clips; the published figures are of 11697")
    assert not said(made, "a 1: 11697 clips")


def test_synthfer_has_a_table_of_its_own_and_nothing_published() -> None:
    synthetic = report("s", dataset="synthfer", protocol="fixed", synthetic=True)
    real, made_up = compare([synthetic, report("r")])
    assert models(real, "dfew, 5-fold") == ["r 1"]
    assert not any("s 1" in models(real, label) for label in labels(real))
    assert labels(made_up) == ["synthfer, fixed"]
    assert made_up.notes[0] == SYNTHETIC
    assert len(compare([synthetic])) == 1


@pytest.mark.parametrize(
    "disguised",
    [
        report(synthetic=True),  # says so, under a real name
        report(dataset="SynthFER", synthetic=False),
        report(dataset=["dfew", "synthfer-gccfer"], synthetic=False),
    ],
)
def test_synthfer_is_never_mixed_whatever_the_report_says(disguised: Report) -> None:
    (made,) = compare([disguised])
    assert not any(block.published for block in made.blocks)
    assert SYNTHETIC in made.notes


def test_folds_give_mean_and_deviation_otherwise_the_interval_stands() -> None:
    (made,) = compare([report("a", folds=folds(0.60, 0.62)), report("b")], published=False)
    of_folds, pooled = (row["UAR"] for row in made.blocks[0].rows)
    assert of_folds.value == pytest.approx(61.0)
    assert of_folds.std == pytest.approx(2**0.5)  # n - 1
    assert (pooled.value, pooled.low, pooled.high) == pytest.approx((61.0, 60.0, 62.0))
    text = render([made], "markdown")
    assert "**61.00** ± 1.41" in text
    assert "**61.00** [60.00, 62.00]" in text


def test_subjects_of_loso_are_pooled_because_one_may_lack_a_class() -> None:
    (made,) = compare([report(protocol="loso", folds=folds(0.2, 1.0))], published=False)
    assert made.blocks[0].rows[0]["UAR"].std is None
    assert made.blocks[0].rows[0]["UAR"].value == pytest.approx(61.0)


def test_an_epoch_chosen_on_the_test_fold_has_a_dagger() -> None:
    made = compare([report("a"), report("b", selection="test fold (paper protocol)")], published=False)
    text = render(made, "markdown")
    assert "| a 1 | dfew | 5-fold |" in text
    assert "| b 1 | dfew | 5-fold† |" in text
    assert "† The epoch was chosen on the test fold (paper protocol)" in text
    assert r"5-fold$^{\dagger}$" in render(made, "latex")


def test_columns_of_classes_and_cultures() -> None:
    cultures = {"African": {"uar": 0.5, "war": {"value": 0.6, "low": 0.5, "high": 0.7}, "count": 9, "recall": {}}}
    one = report(groups={"culture": cultures, "dataset": {"dfew": {"uar": 0.5, "war": 0.5}}})
    (made,) = compare([one], per_class=True, per_culture=True)
    assert made.scores == ["UAR", "WAR", "macro F1", *EXPRESSIONS, "African UAR", "African WAR"]
    (own,) = made.blocks[0].rows
    assert own["African WAR"].low == pytest.approx(50.0)
    hdf = next(row for row in made.blocks[1].rows if row["Model"].text == "HDF")
    assert hdf["Disgust"].value == pytest.approx(12.41)
    assert "African UAR" not in hdf


def test_eilas_races_are_beside_a_report_on_eila() -> None:
    races = {name: {"uar": None, "war": 0.4, "count": 60} for name in ("Black", "White", "Mixed")}
    one = report("r", "eila", "fixed", count=815, groups={"culture": races}, model={"name": "r"})
    (made,) = compare([one], per_culture=True)
    beside = next(row for row in made.blocks[1].rows if row["Model"].text == "ResNet50V2, FER2013 only")
    assert beside["Black WAR"].value == pytest.approx(58.9)
    assert beside["WAR"].value == pytest.approx(40.2)
    assert "UAR" not in beside


def test_micro_expressions_are_found_by_both_datasets() -> None:
    one = report("e", ["samm", "casme2"], "loso", classes=MICRO_EXPRESSIONS, count=290)
    (made,) = compare([one])
    assert models(made, "samm + casme2, loso: published")[-1] == "EthnicMER, ResNet-18 and TinyViT"
    (alone,) = compare([report("e", "samm", "loso", classes=MICRO_EXPRESSIONS)])
    assert said(alone, "nothing is published on it")


def test_rows_with_a_note_are_marked_and_say_where_it_is() -> None:
    (made,) = compare([report()])
    marks = {str(row["Model"].text): row["Model"].marks for row in made.blocks[1].rows}
    assert marks["S2D"] == "‡"
    assert marks["MAE-DFER"] == ""
    assert said(made, "‡", "--table ID")


def written(folder: Path, content: Any) -> Path:
    folder.mkdir(parents=True)
    (folder / "report.json").write_text(content if isinstance(content, str) else json.dumps(content))
    return folder


def test_a_report_is_read_from_its_folder_or_its_file(tmp_path: Path) -> None:
    folder = written(tmp_path / "run-1", report().model_dump(exclude={"source"}) | {"calibration": {"ece": 0.1}})
    assert read_report(folder) == read_report(folder / "report.json")
    assert read_report(folder).source == "run-1"


def test_a_missing_report_says_what_to_run(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"ray-fer evaluate BUNDLE CLIPS -o .*nowhere` writes one"):
        read_report(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"format": 2}, "format 2, this ray-fer reads format 1"),
        ({"datasets": []}, "datasets: List should have at least 1 item"),
        ({"metrics": {"uar": {"value": 61.0}}}, "metrics.uar.value: Input should be less than or equal to 1"),
    ],
)
def test_a_wrong_report_is_named_with_what_is_wrong(tmp_path: Path, change: dict[str, Any], problem: str) -> None:
    folder = written(tmp_path / "run", report().model_dump(exclude={"source"}) | change)
    with pytest.raises(ValueError, match=rf"report.json is no report of `ray-fer evaluate`: .*{problem}"):
        read_report(folder)


@pytest.mark.parametrize("content", ["{", "[]", "\x00"])
def test_what_is_no_report_at_all(tmp_path: Path, content: str) -> None:
    with pytest.raises(ValueError, match="is no report of `ray-fer evaluate`"):
        read_report(written(tmp_path / "run", content))


def test_no_reports_are_refused() -> None:
    with pytest.raises(ValueError, match="no reports to compare"):
        compare([])
