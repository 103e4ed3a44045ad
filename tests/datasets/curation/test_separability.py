"""Groups that can be told apart, groups that cannot, and persons that look like groups."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision

from ray_fer.datasets.curation.separability import FaceFeatures, WeightsError, separability

RANDOM = np.random.default_rng(7)


def test_groups_that_lie_apart() -> None:
    groups = [name for name in ("African", "Caucasian", "East Asian") for _ in range(20)]
    centres = {"African": 0.0, "Caucasian": 8.0, "East Asian": 16.0}
    features = np.array([RANDOM.normal(centres[group], 1, 6) for group in groups])
    result = separability(features, groups)
    assert result.mean == pytest.approx(1.0)
    assert result.std == pytest.approx(0.0)
    assert result.confusion == ((20, 0, 0), (0, 20, 0), (0, 0, 20))
    assert result.chance == pytest.approx(1 / 3)
    assert len(result.accuracy) == 5
    assert not result.by_subject
    assert result.note is not None
    assert "subject_id" in result.note


def test_groups_that_are_noise() -> None:
    groups = ["A", "B"] * 200
    result = separability(RANDOM.normal(size=(400, 4)), groups)
    assert result.mean == pytest.approx(0.5, abs=0.1)
    assert sum(map(sum, result.confusion)) == 400
    assert result.std == pytest.approx(np.std(result.accuracy, ddof=1))


def test_rows_of_the_confusion_are_the_true_groups() -> None:
    result = separability(np.zeros((40, 2)), ["A"] * 30 + ["B"] * 10)  # nothing to learn from: all are taken for A
    assert result.confusion == ((30, 0), (10, 0))
    assert result.mean == result.chance == pytest.approx(0.75)


def test_persons_are_not_taken_for_groups() -> None:
    """Each person is easy to recognise and belongs to a group by lot: nothing tells the groups themselves apart."""
    subjects = [f"person {n}" for n in range(40) for _ in range(6)]
    looks = {subject: RANDOM.normal(size=60) for subject in subjects}
    features = np.array([looks[subject] + RANDOM.normal(0, 0.05, 60) for subject in subjects])
    groups = ["AB"[int(subject.split()[1]) % 2] for subject in subjects]
    by_clip, by_subject = separability(features, groups), separability(features, groups, subjects)
    assert by_clip.mean is not None
    assert by_clip.mean > 0.95
    assert by_subject.mean == pytest.approx(0.5, abs=0.2)
    assert (by_subject.by_subject, by_subject.note) == (True, None)


@pytest.mark.parametrize(
    ("groups", "subjects", "reason"),
    [
        (["A"] * 10, None, "fewer than two groups"),
        ([], None, "fewer than two groups"),
        (["A"] * 10 + ["B"] * 4, None, "B has 4 clips, fewer than the 5 folds"),
        (["A"] * 10 + ["B"] * 10, [str(n % 3) for n in range(20)], "A has 3 subjects"),
    ],
)
def test_what_cannot_be_computed_says_why(groups: list[str], subjects: list[str] | None, reason: str) -> None:
    result = separability(np.zeros((len(groups), 3)), groups, subjects)
    assert (result.mean, result.std, result.accuracy) == (None, None, ())
    assert result.reason is not None
    assert reason in result.reason


def test_features_are_what_torchvisions_network_gives(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = torchvision.models.resnet18(weights=None).eval()
    torch.save(network.state_dict(), tmp_path / "resnet18.pth")
    image = np.random.default_rng(0).integers(0, 255, (224, 224, 3), np.uint8)
    normal = torchvision.transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    with torch.inference_mode():
        logits = network(normal(torchvision.transforms.functional.to_tensor(image))[None])
        features = FaceFeatures(tmp_path / "resnet18.pth")([image, image])
        ours = network.fc(torch.from_numpy(features))
    assert features.shape == (2, 512)
    torch.testing.assert_close(ours, logits.expand(2, -1), rtol=1e-3, atol=1e-3)


def test_weights_that_cannot_be_had(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(WeightsError, match=r"download .*resnet18-.*\.pth to .*checkpoints"):
        FaceFeatures()
    torch.save({"fc.bias": torch.zeros(3)}, tmp_path / "other.pth")
    with pytest.raises(WeightsError, match="not torchvision's resnet18 weights"):
        FaceFeatures(tmp_path / "other.pth")
    checkpoints = tmp_path / "hub" / "checkpoints"
    checkpoints.mkdir(parents=True)
    (checkpoints / "resnet18-f37072fd.pth").write_bytes(b"half a download")
    with pytest.raises(WeightsError, match="does not match its name"):
        FaceFeatures()


def test_random_weights_need_no_file() -> None:
    assert FaceFeatures(random_weights=True)([np.zeros((64, 64, 3), np.uint8)]).shape == (1, 512)
