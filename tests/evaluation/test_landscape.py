"""Loss landscapes: directions against a slow loop, surfaces against closed forms, and the whole way with a bundle."""

from __future__ import annotations

import dataclasses
import json
from contextlib import nullcontext
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
import typer
from sklearn.metrics import log_loss
from torch import Tensor, nn
from typer.testing import CliRunner, Result

from ray_fer.bundle import load_bundle, save_bundle
from ray_fer.cli.evaluate import evaluate
from ray_fer.evaluation.batches import StoredClips, joined
from ray_fer.evaluation.infer import predict_clips
from ray_fer.evaluation.landscape import Landscape, LandscapeOptions
from ray_fer.evaluation.landscape_run import (
    cross_entropy,
    filter_normalised,
    loss_landscape,
    movable,
    moved,
    stratified,
)
from ray_fer.evaluation.predictions import Predictions
from ray_fer.labels import EXPRESSIONS
from ray_fer.models.batch import ClipBatch, ModelOutput
from ray_fer.models.card import Model
from ray_fer.preprocessing.store_index import ClipIndex, read_index
from tests.clip_stores import colour_store

SMALL = LandscapeOptions(clips=10, points=3)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> ClipIndex:
    """Clips of seven classes in two splits, in several shards."""
    return read_index(colour_store(tmp_path_factory.mktemp("colours") / "store", {"train": 7, "test": 21}, frames=16))


@pytest.fixture(scope="module")
def landscape(tiny_bundle: Path, store: ClipIndex) -> Landscape:
    return loss_landscape(tiny_bundle, store.split("test"), SMALL, here=True)


class EveryKind(nn.Module):
    """Layers whose parameters have one to four dimensions, one of them frozen."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.norm = nn.BatchNorm2d(4)
        self.lstm = nn.LSTM(4, 5)
        self.token = nn.Parameter(torch.randn(1, 2, 6))
        self.head = nn.Linear(5, 7)
        self.frozen = nn.Linear(3, 3).requires_grad_(False)
        nn.init.zeros_(self.head.weight[2])  # a filter without a norm


MOVING = ["token", "conv.weight", "lstm.weight_ih_l0", "lstm.weight_hh_l0", "head.weight"]


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_every_filter_of_a_direction_has_the_norm_of_its_own() -> None:
    model = EveryKind()
    direction = filter_normalised(model, generator())
    assert list(direction) == MOVING
    drawn = generator()
    for name, weight in model.named_parameters():
        if name not in MOVING:
            continue
        noise = torch.randn(weight.shape, generator=drawn)
        for place in range(len(weight)):  # Li et al., section 4, one filter at a time
            scale = weight[place].double().square().sum().sqrt() / noise[place].double().square().sum().sqrt()
            expected = (noise[place].double() * scale).float()
            torch.testing.assert_close(direction[name][place], expected, rtol=1e-5, atol=1e-7)
    assert not direction["head.weight"][2].any()


def test_what_moves_and_what_does_not() -> None:
    model = EveryKind()
    before = {name: one.clone() for name, one in model.state_dict().items()}
    first, second = (filter_normalised(model, generator(seed)) for seed in (1, 2))
    with moved(model, [(0.5, first), (-2.0, second)]):
        for name, one in model.state_dict().items():
            expected = before[name]
            if name in MOVING:
                expected = expected + 0.5 * first[name] - 2.0 * second[name]
            torch.testing.assert_close(one, expected)
        assert not torch.equal(model.conv.weight, before["conv.weight"])
    assert all(torch.equal(one, before[name]) for name, one in model.state_dict().items())


def test_an_lstm_answers_with_the_moved_weights() -> None:
    """It holds its weights a second time, for cuDNN."""
    model, given = EveryKind(), torch.randn(6, 2, 4)
    direction = filter_normalised(model, generator())
    copied = EveryKind()
    copied.load_state_dict({name: one + direction.get(name, 0) for name, one in model.state_dict().items()})
    with moved(model, [(1.0, direction)]):
        torch.testing.assert_close(model.lstm(given)[0], copied.lstm(given)[0])


def test_weights_are_restored_after_an_error() -> None:
    model = EveryKind()
    before = model.conv.weight.detach().clone()
    direction = filter_normalised(model, generator())
    with pytest.raises(RuntimeError, match="out of memory"), moved(model, [(1e30, direction)]):
        raise RuntimeError("out of memory")
    assert torch.equal(model.conv.weight, before)


def test_a_model_that_has_nothing_to_move() -> None:
    with pytest.raises(ValueError, match="Linear has no weights that training moves"):
        movable(nn.Linear(3, 3).requires_grad_(False))


class Logistic(nn.Module):
    """Logits that are linear in one matrix, of what stands in the first pixel."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight)

    def forward(self, batch: ClipBatch) -> ModelOutput:
        features = batch.frames[:, 0, :, 0, 0]
        return ModelOutput(features @ self.weight.T, features)


def test_logistic_regression_has_the_closed_form() -> None:
    """Two classes: a clip's loss is log(1 + exp(-margin)), and its margin is linear in alpha and beta."""
    rng = np.random.default_rng(0)
    weight, features, labels = rng.normal(size=(2, 3)), rng.normal(size=(7, 3)), rng.integers(0, 2, 7)
    model = Logistic(torch.from_numpy(weight))
    first, second = (filter_normalised(model, generator(seed)) for seed in (0, 1))
    frames = torch.from_numpy(features)[:, None, :, None, None]
    batches = [partial(ClipBatch, frames[:4]), partial(ClipBatch, frames[4:])]

    def margin(matrix: np.ndarray) -> np.ndarray:
        return (2 * labels - 1) * (features @ (matrix[1] - matrix[0]))

    for alpha in (-2.0, 0.0, 0.7):
        for beta in (-0.3, 0.0, 2.0):
            with moved(model, [(alpha, first), (beta, second)]):
                loss = cross_entropy(model, batches, labels.tolist())
            margins = margin(weight + alpha * first["weight"].numpy() + beta * second["weight"].numpy())
            assert loss == pytest.approx(np.log1p(np.exp(-margins)).mean(), rel=1e-12)


def loss_of(answers: Predictions) -> float:
    """scikit-learn's, of the probabilities."""
    return float(log_loss(answers.truth, answers.probabilities, labels=range(7)))


def test_the_centre_is_the_cross_entropy_of_the_answers(
    tiny_bundle: Path, store: ClipIndex, landscape: Landscape
) -> None:
    answers = predict_clips(tiny_bundle, stratified(store.split("test"), SMALL.clips), here=True)
    assert landscape.losses[1, 1] == pytest.approx(loss_of(answers), abs=1e-6)
    assert landscape.clip_ids == answers.column("clip_id")


def test_a_point_is_the_cross_entropy_of_a_bundle_with_those_weights(
    tiny_bundle: Path, store: ClipIndex, landscape: Landscape, tmp_path: Path
) -> None:
    bundle, drawn = load_bundle(tiny_bundle), generator(SMALL.seed)
    first, second = (filter_normalised(bundle.model, drawn) for _ in range(2))
    with torch.no_grad():
        for name, weight in bundle.model.named_parameters():
            weight += 1.0 * first.get(name, 0) + 0.0 * second.get(name, 0)
    corner = save_bundle(tmp_path / "corner", bundle.config, bundle.model, {}, None, "")
    answers = predict_clips(corner, stratified(store.split("test"), SMALL.clips), here=True)
    assert landscape.losses[2, 1] == pytest.approx(loss_of(answers), abs=1e-6)


def test_the_same_call_gives_the_same_surface(tiny_bundle: Path, store: ClipIndex, landscape: Landscape) -> None:
    heard: list[tuple[int, int]] = []
    again = loss_landscape(
        tiny_bundle, store.split("test"), SMALL, here=True, progress=lambda done, total: heard.append((done, total))
    )
    np.testing.assert_array_equal(again.losses, landscape.losses)
    assert heard == [(done, 9) for done in range(1, 10)]
    other = loss_landscape(tiny_bundle, store.split("test"), dataclasses.replace(SMALL, seed=1), here=True)
    assert other.losses[1, 1] == landscape.losses[1, 1]
    assert not np.isclose(other.losses, landscape.losses).all()


class Towered(Model):
    """A frozen tower, and a head that is trained on what it says."""

    def __init__(self, remembers: bool) -> None:
        super().__init__()
        self.tower = nn.Linear(3, 4).requires_grad_(False)
        self.head = nn.Linear(4, 7)
        self.remembers, self.ran = remembers, 0
        self.told: list[Tensor | None] = []

    def frozen(self, batch: ClipBatch) -> dict[str, Tensor]:
        return {"colour": self._colour(batch)} if self.remembers else {}

    def _colour(self, batch: ClipBatch) -> Tensor:
        self.ran += 1
        return self.tower(batch.frames.mean(dim=(1, 3, 4)))

    def forward(self, batch: ClipBatch) -> ModelOutput:
        self.told.append(batch.culture)
        colour = self._colour(batch) if batch.cached is None else batch.cached["colour"]
        return ModelOutput(self.head(colour), colour)


def towered(bundle: Path, monkeypatch: pytest.MonkeyPatch, remembers: bool) -> Towered:
    """The model that every bundle has from now on."""
    torch.manual_seed(0)
    model = Towered(remembers).eval()
    changed = dataclasses.replace(load_bundle(bundle), model=model)
    monkeypatch.setattr("ray_fer.evaluation.landscape_run.load_bundle", lambda _path: changed)
    return model


def test_what_is_frozen_is_computed_once(tiny_bundle: Path, store: ClipIndex, monkeypatch: pytest.MonkeyPatch) -> None:
    losses, options = [], LandscapeOptions(clips=20, points=3)
    for remembers, times in ((False, 9 * 2), (True, 2)):  # 20 clips are two batches
        model = towered(tiny_bundle, monkeypatch, remembers)
        losses.append(loss_landscape(tiny_bundle, store.split("test"), options, here=True).losses)
        assert model.ran == times
        assert model.told == [None] * 9 * 2
    np.testing.assert_array_equal(*losses)


@pytest.mark.parametrize("remembers", [False, True])
def test_it_can_be_told_the_culture(
    tiny_bundle: Path, store: ClipIndex, monkeypatch: pytest.MonkeyPatch, remembers: bool
) -> None:
    model = towered(tiny_bundle, monkeypatch, remembers)
    chosen = store.split("test")
    found = loss_landscape(tiny_bundle, chosen, LandscapeOptions(points=3), tell_culture=True, here=True)
    assert found.content()["culture_told"] is True
    cultures = [place for told in model.told[:2] if told is not None for place in told.tolist()]
    assert cultures == [["A", "B"].index(name) for name in chosen.column("culture")]


def test_clips_are_of_each_class_its_share(store: ClipIndex) -> None:
    unequal = store.where(lambda row: row["label"] == "Happy" or row["clip_id"] in ("test-0005", "test-0006"))
    assert [unequal.column("label").count(name) for name in ("Happy", "Sad", "Surprise")] == [4, 1, 1]
    chosen = stratified(unequal, 3)
    assert [chosen.column("label").count(name) for name in ("Happy", "Sad", "Surprise")] == [2, 0, 1]
    backwards = store.where(np.arange(len(store))[::-1])
    assert set(stratified(backwards, 10).column("clip_id")) == set(stratified(store, 10).column("clip_id"))
    assert len(stratified(store, 1000)) == len(store)
    labels = stratified(store, 14).column("label")
    assert {labels.count(name) for name in EXPRESSIONS} == {2}


def test_clips_of_several_shards_come_together() -> None:
    first, second = (np.full((count, 2, 3, 4, 4), count, np.uint8) for count in (1, 2))
    parts = [
        StoredClips({"frames": each, "scene": each + 10}, cultures)
        for each, cultures in ((first, ["A"]), (second, ["B", None]))
    ]
    both = joined(parts)
    assert (len(both), both.cultures) == (3, ["A", "B", None])
    assert both.inputs["scene"][:, 0, 0, 0, 0].tolist() == [11, 12, 12]
    assert both.rows(1, 3).inputs["frames"][:, 0, 0, 0, 0].tolist() == [2, 2]
    assert both.rows(1, 3).cultures == ["B", None]


def test_no_clips_and_unknown_labels(tiny_bundle: Path, store: ClipIndex, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no usable clip"):
        loss_landscape(tiny_bundle, store.where(lambda _row: False), SMALL, here=True)
    foreign = read_index(colour_store(tmp_path / "store", {"test": 3}, frames=16, classes=("Boredom", "Joy")))
    with pytest.raises(ValueError, match="Boredom"):
        loss_landscape(tiny_bundle, foreign, SMALL, here=True)
    short = read_index(colour_store(tmp_path / "short", {"test": 3}, frames=4))
    with pytest.raises(ValueError, match="other than 16 frames"):
        loss_landscape(tiny_bundle, short, SMALL, here=True)


@pytest.mark.parametrize(
    ("values", "part"),
    [
        ({"clips": 0}, "of 0 clips: give 1 or more"),
        ({"points": 4}, "4 x 4 points: give an odd number"),
        ({"points": 1}, "give an odd number, 3 or more"),
        ({"reach": 0.0}, "give a positive number"),
        ({"reach": float("nan")}, "give a positive number"),
        ({"seed": -1}, "the seed -1"),
    ],
)
def test_options_say_what_is_wrong(values: dict[str, float], part: str) -> None:
    with pytest.raises(ValueError, match=part):
        LandscapeOptions(**values)  # type: ignore[arg-type]


def test_the_trained_weights_are_a_point_of_every_grid() -> None:
    for points in (3, 15, 21):
        for reach in (0.1, 1.0, 3.0):
            steps = LandscapeOptions(points=points, reach=reach).steps
            assert (len(steps), steps[0], steps[points // 2], steps[-1]) == (points, -reach, 0.0, reach)


def test_sharpness_by_hand() -> None:
    """Steps of 0.25, so the circle of 0.25 holds four points and that of 0.5 twelve: not the corners at 0.56."""
    losses = np.full((9, 9), 5.0)
    losses[2:7, 2:7] = 1.0
    losses[4, 4], losses[4, 5], losses[2, 4], losses[2, 3] = 0.5, 0.6, 2.5, 9.0
    found = Landscape("tiny 0", LandscapeOptions(points=9), losses, []).sharpness
    assert found.centre == 0.5
    assert [(one.radius, one.points, one.largest, one.rise) for one in found.within] == [
        (0.25, 4, 1.0, 0.5), (0.5, 12, 2.5, 2.0)
    ]  # fmt: skip
    assert found.flat_share == 2 / 81


def test_a_coarse_grid_has_nothing_to_say_of_the_nearest() -> None:
    found = Landscape("tiny 0", LandscapeOptions(points=5), np.zeros((5, 5)), []).sharpness
    assert [(one.points, one.largest, one.rise) for one in found.within] == [(0, None, None), (4, 0.0, 0.0)]
    assert found.flat_share == 1.0


def test_losses_that_are_not_finite_stay() -> None:
    losses = np.zeros((5, 5))
    losses[0, 0], losses[2, 3] = np.inf, np.nan
    landscape = Landscape("tiny 0", LandscapeOptions(points=5), losses, ["a", "b"])
    assert landscape.not_finite == 2
    assert landscape.sharpness.within[1].largest == np.inf
    content = json.loads(json.dumps(landscape.content(), allow_nan=False))
    assert (content["losses"][0][0], content["losses"][2][3], content["losses"][1][1]) == ("Infinity", "NaN", 0.0)
    np.testing.assert_array_equal(np.array(content["losses"], float), losses)
    assert content["alphas"] == content["betas"] == [-1.0, -0.5, 0.0, 0.5, 1.0]
    assert (content["clips"], content["clip_ids"], content["not_finite"]) == (2, ["a", "b"], 2)
    assert landscape.summary()["sharpness"]["within"][1]["rise"] == "Infinity"


def test_logits_that_overflow_give_losses_that_are_not_finite() -> None:
    model = Logistic(torch.tensor([[3e38], [-3e38]]))
    frames = torch.full((1, 1, 1, 1, 1), 10.0)
    assert np.isnan(cross_entropy(model, [partial(ClipBatch, frames)], [0]))  # inf - inf in the softmax


app = typer.Typer()
app.command()(evaluate)


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)


def test_the_command(tiny_bundle: Path, store: ClipIndex, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ray_fer.serving.local_ray.ray_session", nullcontext)
    monkeypatch.setattr("ray_fer.evaluation.infer.predict_clips", partial(predict_clips, here=True))
    monkeypatch.setattr("ray_fer.evaluation.landscape_run.loss_landscape", partial(loss_landscape, here=True))
    asked = ("--landscape", "--landscape-clips", "7", "--landscape-points", "3", "--landscape-reach", "0.5")
    done = run(tiny_bundle, store.store, "-o", tmp_path / "out", *asked)
    assert done.exit_code == 0, done.output
    found = json.loads((tmp_path / "out" / "landscape.json").read_text())
    assert (found["clips"], found["alphas"]) == (7, [-0.5, 0.0, 0.5])
    assert f"loss of {found['losses'][1][1]:.3f} nats" in done.stdout
    assert " ".join(asked) in (tmp_path / "out" / "index.html").read_text()
    assert (tmp_path / "out" / "landscape.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("options", "part"),
    [
        (["--landscape", "--landscape-points", "4"], "give an odd number"),
        (["--landscape", "--landscape-clips", "-1"], "-1 clips: give 1 or more"),
        (["--landscape", "--landscape-reach", "inf"], "inf far: give a positive number"),
        (["--landscape-clips", "9"], "add --landscape"),
    ],
)
def test_bad_values_are_one_line(options: list[str], part: str) -> None:
    done = run("bundle", "clips", "-o", "out", *options)
    assert done.exit_code == 2
    assert done.stderr.startswith("error: ")
    assert len(done.stderr.splitlines()) == 1
    assert part in done.stderr


def test_help_teaches() -> None:
    text = " ".join(run("--help").stdout.split())
    for part in ("Li et al. 2018", "15 x 15 x 64 clips", "landscape.json"):
        assert part in text
