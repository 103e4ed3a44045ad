"""The prima facie study: draws of subjects, forests against scikit-learn's own loop, and planted rules."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.ensemble import RandomForestClassifier
from sklearn.metrics import f1_score
from sklearn.model_selection import LeaveOneGroupOut, cross_val_predict

from ray_fer.evaluation.prima_facie import (
    MIXED,
    Material,
    check_size,
    draw_subjects,
    left_out_figures,
    one_draw,
    summarised,
)
from ray_fer.evaluation.prima_facie_report import markdown, published, study_figure

CLIPS = 8


def material(rule: dict[str, float], subjects: int = 10, noise: float = 0.5, seed: int = 0) -> Material:
    """Clips of people of two groups; `rule` says how far a group's negative clips stand apart in the first feature."""
    rng = np.random.default_rng(seed)
    features, negative, owners, groups = [], [], [], []
    for group, sign in rule.items():
        for subject in range(subjects):
            for clip in range(CLIPS):
                negative.append(clip % 2 == 0)
                row = rng.normal(0, noise, 4)
                row[0] += sign * (1 if negative[-1] else -1)
                features.append(row)
                owners.append(f"{group}-{subject}")
                groups.append(group)
    return Material(np.array(features, np.float32), np.array(negative), owners, groups)


def test_every_subject_is_answered_by_a_forest_that_has_not_seen_it() -> None:
    made = material({"A": 0.4, "B": 0.4}, subjects=5)
    subjects = draw_subjects(made, 4, seed=3)[MIXED]
    own = np.isin(made.subjects, subjects)
    answers = cross_val_predict(
        RandomForestClassifier(20, random_state=7), made.features[own], made.negative[own],
        groups=np.array(made.subjects)[own], cv=LeaveOneGroupOut(),
    )  # fmt: skip
    by_class = f1_score(made.negative[own], answers, average=None, labels=[True, False])
    found = left_out_figures(made, subjects, seed=7, trees=20)
    assert found == pytest.approx([*by_class, by_class.mean()])
    assert 0.5 < found[2] < 1


def test_a_draw_has_as_many_subjects_of_each_group_and_half_of_both() -> None:
    made = material({"A": 1, "B": 1}, subjects=9)
    drawn = draw_subjects(made, 6, seed=1)
    assert set(drawn) == {"A", "B", MIXED}
    assert all(len(set(subjects)) == 6 for subjects in drawn.values())
    assert {one[0] for one in drawn["A"]} == {"A"}
    assert [one[0] for one in drawn[MIXED]].count("A") == 3
    assert draw_subjects(made, 6, seed=1) == drawn
    assert draw_subjects(made, 6, seed=2) != drawn


def test_where_groups_show_it_the_other_way_round_a_mixture_is_told_worse() -> None:
    apart, alike = material({"A": 1.0, "B": -1.0}), material({"A": 1.0, "B": 1.0})
    found = [summarised([one_draw(made, 8, seed, trees=10) for seed in range(8)]) for made in (apart, alike)]
    assert found[0]["below"] == 1.0
    assert found[0]["difference"]["interval"][1] < -0.2
    low, high = found[1]["difference"]["interval"]
    assert low < 0.02
    assert high > -0.02
    assert found[1]["rows"]["A"]["Average"]["mean"] > 0.85


def test_a_summary_by_hand() -> None:
    draws = [
        {"A": [0.6, 0.4, 0.5], "B": [0.8, 0.6, 0.7], MIXED: [0.5, 0.3, 0.4]},
        {"A": [0.6, 0.4, 0.5], "B": [0.8, 0.8, 0.8], MIXED: [0.7, 0.7, 0.7]},
    ]
    found = summarised(draws)
    assert found["below"] == 0.5, "0.7 is below B and not below A"
    assert found["difference"]["mean"] == pytest.approx(((0.4 - 0.6) + (0.7 - 0.65)) / 2)
    assert found["rows"]["B"]["Non-negative"]["mean"] == pytest.approx(0.7)
    assert found["rows"]["B"]["Non-negative"]["values"] == [0.6, 0.8]


def test_what_does_not_allow_the_study_is_said() -> None:
    with pytest.raises(ValueError, match=r"compares two groups, and these clips are of A$"):
        material({"A": 1}).members()
    with pytest.raises(ValueError, match="A has 10 subjects, which is fewer than 16; draw fewer"):
        check_size(material({"A": 1, "B": 1}), 16)
    with pytest.raises(ValueError, match="5 subjects cannot be halved"):
        check_size(material({"A": 1, "B": 1}), 5)
    both = material({"A": 1, "B": 1}, subjects=2)
    with pytest.raises(ValueError, match="subject A-0 has clips in groups A and B; give it one"):
        Material(both.features, both.negative, ["A-0"] * len(both.subjects), both.groups).members()


def test_the_paper_s_draw_stands_beside_ours() -> None:
    assert published()["Asian"] == {"Negative": 0.433, "Non-negative": 0.4762, "Average": 0.4546}
    made = material({"Asian": 1.0, "Non-Asian": -1.0})
    content = summarised([one_draw(made, 8, seed, trees=5) for seed in range(4)]) | {
        "drawn": 8, "clips": {"Asian": 80, "Non-Asian": 80}, "left_out": {"no culture": 3}, "negative": 80, "trees": 5,
        "features": "made up",
    }  # fmt: skip
    text = markdown(content)
    assert "| 4 and 4, mixed |" in text
    assert text.count("| 0.4375 |") == 1
    assert "160 clips (80 of Asian, 80 of Non-Asian), 80 of them negative" in text
    assert "Left out: 3 (no culture)." in text
    axes = study_figure(content).axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["4 and 4, mixed", "8 Non-Asian", "8 Asian"]
    assert len(axes.collections) == 6, "points and the paper's diamond for each row"
