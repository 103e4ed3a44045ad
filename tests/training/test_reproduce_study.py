"""The prima facie study as a table: our mean and interval beside the paper's draw."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ray_fer.evaluation.prima_facie import summarised
from ray_fer.evaluation.prima_facie_run import StudyOptions
from ray_fer.evaluation.published_tables import table
from ray_fer.evaluation.reproduced import Source
from ray_fer.training.reproduce import reproduce
from ray_fer.training.reproduce_plan import ReproduceOptions
from ray_fer.training.reproduce_study import study_comparison, study_options
from tests.clip_stores import colour_store, joined_store
from tests.training.test_reproduce import row, texts

FOUR = "ethnicmer-table-4"
DRAWS = [
    {"Asian": [0.6, 0.4, 0.5], "Non-Asian": [0.8, 0.6, 0.7], "Mixed": [0.5, 0.3, 0.4]},
    {"Asian": [0.7, 0.5, 0.6], "Non-Asian": [0.8, 0.8, 0.8], "Mixed": [0.7, 0.7, 0.7]},
    {"Asian": [0.2, 0.4, 0.3], "Non-Asian": [0.4, 0.8, 0.6], "Mixed": [0.1, 0.7, 0.4]},
]
FOUND = summarised(DRAWS) | {
    "drawn": 16, "clips": {"Asian": 80, "Non-Asian": 80}, "left_out": {}, "negative": 80, "trees": 100,
    "features": "made up",
}  # fmt: skip


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[StudyOptions]:
    """Stands for the study itself; what it was asked."""
    given: list[StudyOptions] = []

    def study(options: StudyOptions, progress: Callable[[int, int], None], session: Any) -> dict[str, Any]:
        given.append(options)
        for number in range(1, 26):
            progress(number, 25)
        return FOUND

    monkeypatch.setattr("ray_fer.training.reproduce_study.study", study)
    return given


def micro_store(folder: Path, cultures: tuple[str, ...] = ("Asian", "Non-Asian")) -> Path:
    classes = ("Negative", "Positive", "Surprise")
    return joined_store([
        colour_store(folder / name, {"train": 12}, classes=classes, cultures=cultures, dataset=name, prefix=name)
        for name in ("casme2", "samm")
    ])  # fmt: skip


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return micro_store(tmp_path_factory.mktemp("micro"))


def test_the_mean_over_draws_stands_beside_the_paper_s_one(
    store: Path, tmp_path: Path, asked: list[StudyOptions]
) -> None:
    said = list[str]()
    settings = ("pretrained=resnet18.pth", "subjects=4", "draws=25")
    made = reproduce(ReproduceOptions(FOUR, str(store), tmp_path, settings=settings, seeds=(7, 8)), say=said.append)
    assert asked == [
        StudyOptions(str(store), Path("resnet18.pth"), ("Asian", "Non-Asian"), subjects=4, draws=25, seed=7)
    ]
    assert len(said) == 10
    assert said[-1] == "25 of 25 draws"
    four = table(FOUR)
    assert [one["Row"].text for one in made.table.blocks[0].rows] == [one.name for one in four.rows]
    for group in ("Asian", "Non-Asian", "Mixed"):
        name = f"{group} to {group}"
        (printed,) = (one.values for one in four.rows if one.name == name)
        for place, column in enumerate(("Negative", "Non-negative", "Average")):
            values = np.array([draw[group][place] for draw in DRAWS])
            here = row(made, name)[f"{column} here"]
            assert here.value == pytest.approx(values.mean())
            assert (here.low, here.high) == pytest.approx(tuple(np.quantile(values, [0.025, 0.975])))
            assert row(made, name)[f"{column} difference"].value == pytest.approx(values.mean() - printed[column])
        assert row(made, name)["Protocol"].text == "CDE"
    files = texts(made)
    assert set(files) == {".md", ".tex", ".csv", ".json"}
    assert "| 0.4667 [" in files[".md"]
    assert "the paper drew once" in files[".md"]
    assert "‡ Mixed to Mixed: the text speaks of scores of 0" in files[".md"]
    assert "Average here low" in files[".csv"].splitlines()[0]
    some = study_comparison(four, four.rows[:1], FOUND, Source(["casme2", "samm"]))
    assert [one["Row"].text for one in some.blocks[0].rows] == ["Asian to Asian"]


def test_other_clips_have_a_table_of_their_own(tmp_path: Path, asked: list[StudyOptions]) -> None:
    others = micro_store(tmp_path / "store", ("A", "B"))
    chosen = ReproduceOptions(FOUR, str(others), tmp_path / "out")
    with pytest.raises(ValueError, match="the groups of the clips are A, B, and not Asian and Non-Asian; give a clip"):
        reproduce(chosen)
    one = colour_store(tmp_path / "one", {"train": 6}, dataset="casme2", cultures=("Asian", "Non-Asian"))
    with pytest.raises(ValueError, match=r"the clips are of casme2, and ethnicmer-table-4 is about CASME II \+ SAMM"):
        reproduce(replace(chosen, data=str(one)))
    assert asked == []
    made = reproduce(replace(chosen, any_dataset=True), say=lambda _: None)
    assert asked[0].groups == (), "those there are"
    assert made.table.columns == ["Row", "Negative F1", "Non-negative F1", "macro F1"]
    assert row(made, "Asian to Asian")["macro F1"].value == pytest.approx(100 * np.mean([0.5, 0.6, 0.3]))
    assert "0.4546" not in texts(made)[".md"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"recipe": "ethnicmer"}, "on features that are not trained; leave out --recipe$"),
        ({"aus": "x", "paper_protocol": True}, "leave out --aus and --paper-protocol$"),
        ({"settings": ("epochs=3",)}, "'epochs=3' is no setting of ethnicmer-table-4; there are pretrained=FILE"),
        ({"settings": ("draws=many",)}, "'draws=many' is no setting .* and subjects=16 and draws=100 and trees=100"),
        ({"settings": ("draws=0",)}, "0 draws of forests of 100 trees: give 1 or more"),
        ({"rows": ("Asian",)}, "has no row 'Asian'; there are Asian to Asian"),
        ({"data": "synthfer"}, "not made on SynthFER; give --data a clip store of CASME II .* --flow tvl1"),
    ],
)
def test_what_the_study_does_not_have_is_refused(
    change: dict[str, Any], said: str, store: Path, tmp_path: Path, asked: list[StudyOptions]
) -> None:
    with pytest.raises(ValueError, match=said):
        reproduce(replace(ReproduceOptions(FOUR, str(store), tmp_path / "out"), **change))
    assert asked == []
    assert not (tmp_path / "out").exists()


def test_without_settings_it_is_the_paper_s_study() -> None:
    assert study_options(ReproduceOptions(FOUR, "store", Path("out"))) == StudyOptions("store")
