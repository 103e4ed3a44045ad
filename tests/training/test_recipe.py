"""Recipes: the papers' values, what is refused, and changes from the command line."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from pydantic import ValidationError

from ray_fer.models import ClipBatch, card, create, names, takes
from ray_fer.models.describe import placeholders
from ray_fer.training.optim import Rates, parameter_groups
from ray_fer.training.recipe import Recipe, overridden
from ray_fer.training.recipes import RECIPES, recipe
from ray_fer.training.recipes.cafer import cafer


def test_cafer_has_the_papers_values() -> None:
    made = cafer()
    assert (made.optimizer.name, made.optimizer.lr, made.batch_size) == ("adamw", 1e-5, 8)
    assert (made.optimizer.gradient_clip, made.early_stopping) == (1.0, 7)
    assert (made.loss.smoothing, made.loss.gamma) == (0.1, 2.0)
    assert made.model_config_["embedding_dim"] == 128
    assert (made.transform.size, made.transform.frames, made.transform.zoom) == (224, 16, 1.0)


@pytest.mark.parametrize("name", RECIPES)
def test_recipes_survive_json(name: str) -> None:
    made = recipe(name)
    assert Recipe.model_validate_json(made.model_dump_json()) == made


def test_every_recipe_makes_its_model_with_the_input_of_its_transform() -> None:
    for name in RECIPES:
        made = recipe(name)
        if name.endswith(("-small", "-quick")):  # the others are of real size, and are described elsewhere
            inputs = {key: value for key, value in made.model_inputs.items() if takes(made.model, key)}
            model = create(made.model, **made.model_config_ | inputs | placeholders(made.model)).eval()
            frames, size = made.transform.frames, made.transform.size
            with torch.inference_mode():
                clip = torch.zeros(1, frames, made.transform.channels, size, size)
                image = torch.zeros(1, 3, size, size)
                logits = model(ClipBatch(clip, scene=clip, flow=image, apex=image)).logits
            micro = "flow" in made.reads
            assert logits.shape == (1, 3 if micro else 7)
            assert made.transform.difference != micro
            parameter_groups(model, made.optimizer)
        else:
            shown = card(made.model).input
            assert (made.transform.frames, made.transform.size) == (shown.frames, shown.size)


def test_every_model_has_a_recipe_of_its_papers_size() -> None:
    assert {recipe(name).model for name in RECIPES if not name.endswith(("-small", "-quick"))} == set(names())


def test_published_settings_of_baselines() -> None:
    former, m3dfel, clip = recipe("former_dfer"), recipe("m3dfel"), recipe("dfer_clip")
    assert (former.optimizer.name, former.optimizer.lr, former.schedule.milestones) == ("sgd", 0.01, [40, 80])
    assert (m3dfel.batch_size, m3dfel.epochs, round(m3dfel.schedule.warmup * m3dfel.epochs)) == (256, 300, 20)
    rates = sorted(group["lr"] for group in parameter_groups(create("dfer_clip", "tiny"), clip.optimizer))
    assert rates == pytest.approx([1e-5, 1e-3, 1e-2])
    assert recipe("r3d_18").transform.mean != recipe("c3d").transform.mean, "that of its public weights"


def test_published_settings_of_hdf() -> None:
    """Section 5.1.3."""
    made = recipe("hdf")
    assert (made.optimizer.name, made.optimizer.lr, made.optimizer.weight_decay) == ("adamw", 5e-4, 0.05)
    assert (made.schedule.name, made.schedule.min_lr, made.epochs) == ("cosine", 5e-6, 100)
    assert made.schedule.warmup * made.epochs == 20
    assert made.augment is not None
    assert (made.augment.crop, made.augment.flip, made.augment.jitter) == (True, True, 0.4)
    model = create("hdf", "tiny")
    assert (model.contrast.keywords["temperature"], model.contrast.keywords["eta"]) == (0.07, 0.2)


def test_published_settings_of_ous() -> None:
    """Section IV.A."""
    made = recipe("ous")
    assert (made.optimizer.name, made.optimizer.lr, made.batch_size, made.epochs) == ("adam", 2e-3, 16, 60)
    assert (made.monitor, made.select, made.schedule.stop_below) == ("loss", "best", 1e-7)
    weight = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([weight], made.optimizer.lr)
    rates = Rates(optimizer, made, 1)
    for epoch in range(6):
        assert optimizer.param_groups[0]["lr"] == 2e-3, "the first epoch, and four that are not better"
        rates.validated(1.0)
        if epoch == 5:
            break
    assert optimizer.param_groups[0]["lr"] == pytest.approx(2e-3 / 3), "the fifth"
    assert made.reads == ("frames", "scene")
    assert overridden(made, ["model_config_.streams=face"]).reads == ("frames",)


def test_cached_features_are_of_clips_that_are_not_augmented() -> None:
    with pytest.raises(ValueError, match="set augment=null, or leave out cached"):
        overridden(recipe("ous"), ["cached=/features"])
    assert overridden(recipe("ous"), ["augment=null", "cached=/features"]).cached == "/features"


def test_only_a_plateau_can_end_training_early() -> None:
    with pytest.raises(ValueError, match="goes with a plateau schedule"):
        overridden(recipe("hdf"), ["schedule.stop_below=1e-7"])


def test_ethnicmer_has_the_paper_s_values_and_its_table_s_rows() -> None:
    made = recipe("ethnicmer")
    assert (made.epochs, made.batch_size, made.optimizer.name, made.optimizer.lr) == (15, 32, "adam", 1e-3)
    assert (made.schedule.name, made.schedule.gamma, made.select, made.augment) == ("exponential", 0.9, "last", None)
    assert made.reads == ("flow", "apex")
    assert overridden(made, ["model_config_.ethnicity=none"]).reads == ("flow",)
    with pytest.raises(
        ValueError, match=r"ethnicmer reads flow, whose directions do not turn with it: set augment.rotate=0"
    ):
        overridden(made, ["augment.flip=true"])


def test_a_phase_before_shares_all_that_it_does_not_say() -> None:
    made = overridden(recipe("multidataset"), ["workers=4", "seed=3", "before.epochs=2"])
    first = made.first
    assert first is not None
    assert (first.workers, first.seed, first.epochs, first.batch_size) == (4, 3, 2, 32)
    assert (first.optimizer.name, first.optimizer.lr, made.optimizer.lr) == ("adamax", 1e-4, 1e-5)
    layers = [one.model_config_["trainable_layers"] for one in (first, made)]
    assert (layers, first.before, first.name) == ([0, 10], None, "multidataset-first")
    assert recipe("hdf").first is None
    with pytest.raises(ValueError, match="before trains the same model on the same input"):
        overridden(made, ["before.model=c3d"])
    with pytest.raises(ValueError, match="Extra inputs are not permitted"):
        overridden(made, ["before.epoch=3"])


def test_paths_are_those_of_the_folder_where_the_command_is_typed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    one = overridden(recipe("ous"), ["pretrained=clip", "cached=features", "augment=null"])
    assert (one.pretrained, one.cached) == (str(tmp_path / "clip"), str(tmp_path / "features"))
    assert one.weight_files == [str(tmp_path / "clip")]
    far = overridden(recipe("ous"), ["cached=s3://bucket/features", "augment=null"])
    assert far.cached == "s3://bucket/features"
    both = overridden(recipe("ethnicmer"), ['pretrained=["resnet18.pth", "/w/vit.safetensors"]'])
    assert both.weight_files == [str(tmp_path / "resnet18.pth"), "/w/vit.safetensors"]
    assert overridden(recipe("ous"), []).weight_files == []


def test_an_unknown_recipe_lists_those_there_are() -> None:
    with pytest.raises(
        ValueError,
        match="unknown recipe 'sota'; expected one of cafer, cafer-small, cafer-quick, ethnicmer, ethnicmer-small"
        ", ethnicmer-quick, hdf, hdf-small",
    ):
        recipe("sota")


def test_settings_change_fields_of_every_kind() -> None:
    settings = [
        "optimizer.lr=3e-4", "epochs=3", "augment=null", "model_config_.dropout=0.5", "precision=bf16",
        "workers=[1, 4]", "compile=true", "model_config_.vivit.dim=96", "schedule.name=cosine",
    ]  # fmt: skip
    made = overridden(recipe("cafer-small"), settings)
    assert (made.optimizer.lr, made.epochs, made.augment, made.precision) == (3e-4, 3, None, "bf16")
    assert made.model_config_["dropout"] == 0.5
    assert made.model_config_["vivit"]["dim"] == 96
    assert made.model_config_["vivit"]["patch"] == 8, "its neighbours stay"
    assert made.worker_range == (1, 4)
    assert made.compile
    assert recipe("cafer-small").model_config_["dropout"] == 0.2, "the recipe itself is not changed"


@pytest.mark.parametrize(
    ("setting", "reason"),
    [
        ("optimizer.learning_rate=1", "no such field; there are name, lr, weight_decay"),
        ("optimiser.lr=1", "optimiser: no such field; there are name, model,"),
        ("epochs", "sets nothing; write FIELD=VALUE"),
        ("epochs.x=1", "epochs is 18 and has no fields"),
        ("epochs=many", "valid integer"),
        ("optimizer.lr=-1", "greater than 0"),
        ("workers=[3, 2]", "the fewest and the most"),
        ("optimizer.name=lion", "adamw"),
    ],
)
def test_settings_that_cannot_be_meant(setting: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        overridden(recipe("cafer-small"), [setting])


def test_training_in_the_process_itself_keeps_no_epoch_to_choose_from() -> None:
    assert overridden(recipe("cafer-small"), ["workers=0"]).in_process
    assert not recipe("cafer-small").in_process
    for setting in ("select=best", "early_stopping=3", "checkpoint_every=5"):
        with pytest.raises(ValueError, match=r"workers 0 keeps no checkpoints .* or workers=1"):
            overridden(recipe("cafer-small"), ["workers=0", setting])


def test_milestones_go_with_their_schedule() -> None:
    assert overridden(recipe("cafer"), ["schedule.name=milestones", "schedule.milestones=[3]"]).schedule.milestones
    for settings in (["schedule.name=milestones"], ["schedule.milestones=[3]"]):
        with pytest.raises(ValueError, match="goes with a list of them"):
            overridden(recipe("cafer"), settings)


def test_typos_in_recipes_are_refused() -> None:
    with pytest.raises(ValidationError, match="learnin_rate"):
        Recipe.model_validate({"name": "x", "learnin_rate": 1.0})
