"""Activation maps: geometry against the transform itself, figures by hand, and the whole way with a small EthnicMER."""

from __future__ import annotations

import json
from contextlib import nullcontext
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
import typer
from torch import Tensor, nn
from typer.testing import CliRunner, Result

from ray_fer.action_units.regions import FACE, SIDES, filled, region_mask
from ray_fer.bundle import BundleConfig, save_bundle
from ray_fer.cli.evaluate import evaluate
from ray_fer.evaluation.activation_maps import ActivationMaps, GroupMap, asymmetry, placed, region_shares
from ray_fer.evaluation.activation_plot import activation_chart, activation_figure
from ray_fer.evaluation.activation_run import activation_maps
from ray_fer.evaluation.attention import grad_cam, stretched
from ray_fer.evaluation.compare import read_report
from ray_fer.evaluation.infer import predict_clips
from ray_fer.labels import MICRO_EXPRESSIONS, UNKNOWN_CULTURE
from ray_fer.models import card, create
from ray_fer.models.batch import ClipBatch, ModelOutput
from ray_fer.models.transform import TransformConfig, normalise, prepare
from ray_fer.preprocessing.store_index import ClipIndex, read_index
from ray_fer.video.faces import aligned_landmarks
from tests.canonical_face import canonical_face
from tests.clip_stores import colour_store

SIDE = 224
EVERYTHING = np.ones((SIDE, SIDE), bool)
WHOLE = TransformConfig(canvas=64, size=64)


@pytest.fixture(scope="module")
def face() -> np.ndarray:
    return aligned_landmarks(canonical_face())


def test_a_whole_crop_is_enlarged_as_images_are() -> None:
    maps = torch.rand(3, 7, 7)
    found, seen = placed(maps, TransformConfig())
    expected = nn.functional.interpolate(maps[:, None], (SIDE, SIDE), mode="bilinear", align_corners=False)[:, 0]
    torch.testing.assert_close(found, expected)
    assert seen.all()


@pytest.mark.parametrize(
    "transform",
    [
        TransformConfig(canvas=128, zoom=0.875, size=112),
        TransformConfig(left=0.125, top=0.25, side=0.75, canvas=84, size=84),
        TransformConfig(left=0.25, top=0.125, side=0.625, canvas=160, zoom=0.7, size=112, difference=True),
    ],
)
def test_what_the_network_sees_is_put_back_where_it_was(transform: TransformConfig) -> None:
    """A square of the crop, cut and resized as the network's input is, and put back as if it were a map."""
    crops = np.zeros((1, SIDE, SIDE, 3), np.uint8)
    crops[:, 80:104, 120:160] = 255
    level = transform.model_copy(update={"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)})
    seen_by_network = normalise(prepare(torch.from_numpy(crops), level)[None], level)[0, :, 0]
    found, seen = placed(seen_by_network, transform)
    rows, columns = (np.flatnonzero(found[0].numpy().max(axis=axis) > 0.5)[[0, -1]] for axis in (1, 0))
    np.testing.assert_allclose(rows, (80, 103), atol=1)
    np.testing.assert_allclose(columns, (120, 159), atol=1)
    side = 224 * transform.side * transform.zoom
    assert seen.sum() == pytest.approx(side**2, rel=0.03)
    assert not found[0].numpy()[~seen].any()


def test_asymmetry_is_of_the_persons_own_sides(face: np.ndarray) -> None:
    flat = np.full((SIDE, SIDE), 0.3)
    assert asymmetry(flat, face, EVERYTHING) == pytest.approx(0)
    right_of_the_picture = np.tile(np.arange(SIDE) > face[1, 0] + 1, (SIDE, 1)).astype(float)
    assert asymmetry(right_of_the_picture, face, EVERYTHING) == pytest.approx(1)
    assert asymmetry(1 - right_of_the_picture, face, EVERYTHING) == pytest.approx(-1, abs=0.05)
    assert asymmetry(flat + 0.3 * right_of_the_picture, face, EVERYTHING) == pytest.approx(1 / 3, abs=0.02)
    assert asymmetry(np.zeros((SIDE, SIDE)), face, EVERYTHING) is None


class LooksAtOneCorner(nn.Module):
    """Class 0 is spoken for by what is bright in one quarter of the picture."""

    def __init__(self, right: bool) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, 2, 1)
        nn.init.ones_(self.layer.weight)
        self.columns = slice(4, None) if right else slice(0, 4)

    def forward(self, batch: ClipBatch) -> ModelOutput:
        seen: Tensor = self.layer(batch.frames.flatten(0, 1)).relu()[:, :, 4:, self.columns]
        corner = seen.square().mean(dim=(1, 2, 3))
        return ModelOutput(torch.stack([corner, -corner], dim=1), corner[:, None])


@pytest.mark.parametrize("right", [False, True])
def test_a_network_that_sees_one_corner(right: bool, face: np.ndarray) -> None:
    frames = torch.zeros(1, 1, 3, 8, 8)
    frames[..., 5:7, slice(5, 6) if right else slice(2, 3)] = 1.0
    maps = stretched(grad_cam(LooksAtOneCorner(right), ClipBatch(frames), torch.tensor([0]))).mean(dim=1)
    heat, seen = placed(maps, TransformConfig())
    found = asymmetry(heat[0].numpy(), face, seen)
    assert found is not None
    assert found > 0.95 if right else found < -0.95, "the right of the picture is the person's left"


def test_shares_and_densities_by_hand(face: np.ndarray) -> None:
    both = filled(FACE["left"], face, SIDE) | filled(FACE["right"], face, SIDE)
    everywhere, inside = region_shares(np.full((SIDE, SIDE), 0.5), face, EVERYTHING)
    assert inside == pytest.approx(both.sum() / SIDE**2)
    for au in ("AU01", "AU12", "AU26"):
        for side in SIDES:
            region = region_mask(au, side, face, SIDE)
            assert everywhere[au][side].share == pytest.approx(region.sum() / SIDE**2)
            assert everywhere[au][side].density == pytest.approx(1)

    smile = region_mask("AU12", "left", face, SIDE)
    found, inside = region_shares(smile.astype(float), face, EVERYTHING)
    assert (inside, found["AU12"]["left"].share, found["AU12"]["right"].share) == (1.0, 1.0, 0.0)
    assert found["AU12"]["left"].density == pytest.approx(both.sum() / smile.sum())
    assert found["AU15"]["left"].share > 0, "regions overlap"  # type: ignore[operator]

    lower = EVERYTHING.copy()
    lower[:112] = False
    found, _ = region_shares(np.where(lower, 0.5, 0.0), face, lower)
    assert found["AU01"]["left"].density is None, "the network does not see it"
    assert found["AU26"]["left"].density == pytest.approx(1)
    nothing, inside = region_shares(np.zeros((SIDE, SIDE)), face, EVERYTHING)
    assert (inside, nothing["AU12"]["left"].share) == (None, None)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> ClipIndex:
    """33 clips of three classes; every other two of no known group."""
    folder = tmp_path_factory.mktemp("motion") / "store"
    groups = ("Asian", UNKNOWN_CULTURE)
    return read_index(
        colour_store(folder, {"test": 33}, classes=MICRO_EXPRESSIONS, cultures=groups, flow=True, face=canonical_face())
    )


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained EthnicMER."""
    torch.manual_seed(0)
    arguments = {"ethnicity": "texture", "texture_backbone": "resnet18", "width": 8}
    config = BundleConfig(
        name="tiny", version="0", model="ethnicmer", model_config_=arguments, classes=list(MICRO_EXPRESSIONS),
        cultures=["Asian", "Non-Asian"], preprocessing=WHOLE,
    )  # fmt: skip
    return save_bundle(
        tmp_path_factory.mktemp("bundle") / "tiny", config, create("ethnicmer", **arguments), {}, None, "# tiny\n"
    )


@pytest.fixture(scope="module")
def maps(bundle: Path, store: ClipIndex) -> ActivationMaps:
    return activation_maps(bundle, store, here=True)


def test_every_class_and_group_has_its_mean(maps: ActivationMaps, store: ClipIndex, face: np.ndarray) -> None:
    assert (maps.model, maps.trunk, maps.cell) == ("tiny 0", "emotion", (112.0, 112.0))
    assert maps.expressions == list(MICRO_EXPRESSIONS)
    assert maps.groups == ["Asian", UNKNOWN_CULTURE]
    cells = list(zip(store.column("label"), store.column("culture"), strict=True))
    for one in maps.maps:
        assert one.count + one.flat == cells.count((one.expression, one.group))
        assert one.few == (one.count < 10)
        np.testing.assert_allclose(one.landmarks, face, atol=1e-3)
        assert one.face is not None
        assert (70 < one.face.mean() < 110) == (one.group == "Asian"), "the mean apex has the group's grey"


def test_a_mean_is_that_of_its_clips(bundle: Path, store: ClipIndex) -> None:
    named = zip(store.column("label"), store.column("culture"), strict=True)
    rows = [row for row, names in enumerate(named) if names == ("Positive", "Asian")][:3]
    (both,) = activation_maps(bundle, store.where(np.array(rows)), here=True).maps
    alone = [activation_maps(bundle, store.where(np.array([row])), here=True).maps[0] for row in rows]
    shown = [one for one in alone if one.count]
    assert (both.count, both.flat) == (len(shown), 3 - len(shown))
    np.testing.assert_allclose(both.heat, np.mean([one.heat for one in shown], axis=0), atol=1e-6)
    assert all(one.asymmetry_std is None for one in alone)
    assert both.asymmetry_std == pytest.approx(np.std([one.asymmetry for one in shown], ddof=1), abs=1e-5)


def test_without_faces_none_is_kept(bundle: Path, store: ClipIndex, maps: ActivationMaps) -> None:
    hidden = activation_maps(bundle, store, here=True, faces=False)
    assert all(one.face is None for one in hidden.maps)
    assert (maps.summary()["faces"], hidden.summary()["faces"]) == (True, False)
    assert activation_chart(hidden).data.startswith(b"\x89PNG")


def made(expression: str, group: str, face: np.ndarray, count: int = 12, flat: int = 0) -> GroupMap:
    """Heat on the person's left half of the face, none where no clip counts."""
    heat = filled(FACE["left"], face, SIDE) * (0.5 if count else 0.0)
    regions, share = region_shares(heat, face, EVERYTHING)
    how = asymmetry(heat, face, EVERYTHING)
    return GroupMap(expression, group, count, flat, heat, face, None, share, how, 0.1, regions)


def test_the_files_say_what_was_found(face: np.ndarray) -> None:
    found = ActivationMaps("m 1", "emotion", (32.0, 32.0), [made("Positive", "A", face, flat=2)], told_culture=True)
    part = json.loads(json.dumps(found.summary(), allow_nan=False))
    assert (part["trunk"], part["cell"], part["method"], part["few_below"]) == ("emotion", [32, 32], "Grad-CAM", 10)
    (one,) = part["maps"]
    assert (one["count"], one["flat"], one["few"], one["face_share"]) == (12, 2, False, 1.0)
    assert list(one["regions"]) == ["AU06", "AU12"], "those of happiness"
    assert one["regions"]["AU12"]["left"]["density"] == pytest.approx(2, abs=0.05)
    assert one["regions"]["AU12"]["right"]["density"] == 0
    content = json.loads(json.dumps(found.content(), allow_nan=False))
    assert (content["format"], content["model"], content["culture_told"]) == (1, "m 1", True)
    (whole,) = content["maps"]
    assert len(whole["regions"]) == 20
    assert np.mean(whole["map"]) == pytest.approx(found.maps[0].heat.mean(), abs=1e-4)
    assert whole["map"][14][6] == 0.0 < whole["map"][14][18] == 0.5


def test_the_figure_has_a_row_for_each_class_and_a_column_for_each_group(face: np.ndarray) -> None:
    parts = [made("Positive", "A", face), made("Positive", "B", face, count=3), made("Surprise", "A", face, 0, flat=4)]
    found = ActivationMaps("m 1", "emotion", (32.0, 32.0), parts)
    figure = activation_figure(found)
    panels = figure.axes[:4]
    assert [one.get_title() for one in panels] == ["A  (n = 12)", "B  (n = 3, few)", "A  (n = 0, few)", "B  (n = 0)"]
    assert [one.get_ylabel() for one in panels] == ["Positive", "", "Surprise", ""]
    assert [text.get_text() for text in panels[0].texts] == ["AU06", "AU12"]
    said = [text.get_text() for one in panels[2:] for text in one.texts]
    assert said == ["nothing stands out\nin 4 clips", "no clip"]
    assert len(panels[0].patches) == 2 * 3, "two regions and half a face on each side"
    picture = np.asarray(panels[0].images[0].get_array())
    assert picture[112, 150].sum() > picture[112, 70].sum()
    caption = activation_chart(found).caption
    for words in ("Of 4 clips nothing stands out", "Few: too few clips", "own left is on the right"):
        assert words in caption


app = typer.Typer()
app.command()(evaluate)


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)


@pytest.fixture
def without_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ray_fer.serving.local_ray.ray_session", nullcontext)
    monkeypatch.setattr("ray_fer.evaluation.infer.predict_clips", partial(predict_clips, here=True))
    monkeypatch.setattr("ray_fer.evaluation.activation_run.activation_maps", partial(activation_maps, here=True))


def test_the_command(bundle: Path, store: ClipIndex, tmp_path: Path, without_ray: None) -> None:
    output = tmp_path / "out"
    done = run(bundle, store.store, "-o", output, "--activation-maps")
    assert done.exit_code == 0, done.output
    content = json.loads((output / "activation-maps.json").read_text())
    report = json.loads((output / "report.json").read_text())
    assert sum(one["count"] + one["flat"] for one in content["maps"]) == report["metrics"]["count"] == 33
    assert [one["asymmetry"] for one in report["activation_maps"]["maps"]] == [
        one["asymmetry"] for one in content["maps"]
    ]
    assert (output / "activation-maps.png").read_bytes().startswith(b"\x89PNG")
    assert read_report(output).name == "tiny 0", "`ray-fer compare` reads it as before"
    page = " ".join((output / "index.html").read_text().split())
    for words in (
        "--activation-maps", "Activation maps</h2>", "112&nbsp;×&nbsp;112 px", "pass it on only as the licences",
        "of the emotion trunk, which sees the motion; above is the apex",
    ):  # fmt: skip
        assert words in page

    done = run(bundle, store.store, "-o", output, "--overwrite", "--no-faces")
    assert done.exit_code == 0, done.output
    assert not {path.name for path in output.iterdir()} & {"activation-maps.json", "activation-maps.png"}
    assert "Activation maps" not in (output / "index.html").read_text()


def test_models_that_cannot_be_looked_into(
    tiny_bundle: Path, store: ClipIndex, tmp_path: Path, without_ray: None
) -> None:
    done = run(tiny_bundle, store.store, "-o", tmp_path / "out", "--activation-maps")
    assert done.exit_code == 2
    assert done.stderr.startswith("error: CaFer looks with a ViViT, of which there is no map for each class: leave out")
    assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_other_clips_are_refused(bundle: Path, store: ClipIndex, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no usable clip"):
        activation_maps(bundle, store.where(lambda _row: False), here=True)
    foreign = colour_store(tmp_path / "store", {"test": 3}, classes=("Boredom", "Joy"), flow=True)
    with pytest.raises(ValueError, match="Boredom"):
        activation_maps(bundle, read_index(foreign), here=True)
    faces = colour_store(tmp_path / "faces", {"test": 3}, classes=MICRO_EXPRESSIONS)
    with pytest.raises(ValueError, match=r"keeps no optical flow, which the model reads; .*--flow tvl1"):
        activation_maps(bundle, read_index(faces), here=True)


def test_a_model_of_frames(tmp_path: Path) -> None:
    """It sees the middle of its crops."""
    arguments = {"classes": 3, **card("mc3_18").tiny}
    transform = TransformConfig(frames=8, canvas=40, zoom=0.8, size=32)
    config = BundleConfig(
        name="frames", version="0", model="mc3_18", model_config_=arguments, classes=list(MICRO_EXPRESSIONS),
        cultures=["A", "B"], preprocessing=transform,
    )  # fmt: skip
    torch.manual_seed(0)
    bundle = save_bundle(tmp_path / "bundle", config, create("mc3_18", **arguments), {}, None, "# frames\n")
    folder = colour_store(tmp_path / "store", {"test": 6}, 8, MICRO_EXPRESSIONS, face=canonical_face())
    found = activation_maps(bundle, read_index(folder), here=True)
    assert found.trunk == "whole"
    assert found.cell[0] == pytest.approx(224 * 0.8 / 2)
    for one in found.maps:
        assert not one.heat[:22].any()
        assert not one.heat[:, -22:].any()
        assert one.face is not None
