"""Which model answers a stream, and which lists of models are refused."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path

import pytest
from pydantic import ValidationError

from ray_fer.bundle import PACKAGED, BundleError, read_config, release
from ray_fer.serving.catalogue import Catalogue, ModelsConfig, Share, UnknownModelError, models_of, read_catalogue
from ray_fer.serving.routes import Routes


def changed(folder: Path, **preprocessing: float) -> Path:
    """The packaged bundle with another preprocessing."""
    shutil.copytree(PACKAGED, folder)
    config = json.loads((folder / "config.json").read_text())
    config["preprocessing"] |= preprocessing
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.fixture
def three(tmp_path: Path) -> dict[str, str]:
    return {"a": "packaged", "b": str(changed(tmp_path / "b")), "c": str(changed(tmp_path / "c", canvas=48))}


def test_the_first_bundle_answers_unless_another_is_named(three: dict[str, str]) -> None:
    catalogue = read_catalogue(ModelsConfig(models=three))
    assert catalogue.get().info.name == "a"
    assert catalogue.route("any").answers.path == str(PACKAGED)
    assert catalogue.get("c").transform.canvas == 48
    assert catalogue.get().classes == tuple(read_config(PACKAGED).classes)
    assert read_catalogue(ModelsConfig(models=three, default="b")).get().info.name == "b"
    with pytest.raises(UnknownModelError, match="no model 'd' here; choose one of a, b, c"):
        catalogue.get("d")


def test_a_canary_answers_its_share_of_streams_and_always_the_same() -> None:
    streams = [f"stream {number}" for number in range(2000)]
    catalogue = read_catalogue(
        ModelsConfig(models={"a": "packaged", "b": "packaged"}, canary=Share(model="b", fraction=0.2))
    )
    answers = [catalogue.route(stream).answers.info.name for stream in streams]
    assert Counter(answers)["b"] == pytest.approx(400, abs=4 * (2000 * 0.2 * 0.8) ** 0.5)
    assert answers == [catalogue.route(stream).answers.info.name for stream in streams]
    smaller = Share(model="b", fraction=0.05)
    assert {one for one in streams if smaller.holds(one)} < {
        one for one in streams if Share(model="b", fraction=0.2).holds(one)
    }
    assert all(Share(model="b", fraction=1).holds(one) for one in streams)


def test_a_shadow_is_beside_whoever_answers_and_never_beside_itself() -> None:
    models = {"a": "packaged", "b": "packaged"}
    alone = read_catalogue(ModelsConfig(models=models, shadow=Share(model="b", fraction=1)))
    route = alone.route("s")
    assert route.shadow is not None
    assert (route.answers.info.name, route.shadow.info.name) == ("a", "b")
    both = ModelsConfig(models=models, canary=Share(model="b", fraction=1), shadow=Share(model="b", fraction=1))
    assert read_catalogue(both).route("s").shadow is None
    assert [(name, role, share) for name, _, role, share in read_catalogue(both).roles()] == [
        ("a", "default", None), ("b", "canary", 1.0), ("b", "shadow", 1.0),
    ]  # fmt: skip


def test_models_that_do_not_go_together_are_refused(three: dict[str, str], tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="canary model 'x' is not among the models: a, b, c"):
        ModelsConfig(models=three, canary=Share(model="x", fraction=0.5))
    with pytest.raises(ValueError, match="shadow model c cuts faces otherwise than the models that answer"):
        read_catalogue(ModelsConfig(models=three, shadow=Share(model="c", fraction=0.5)))
    short = {"a": "packaged", "short": str(changed(tmp_path / "short", frames=8))}
    assert read_catalogue(ModelsConfig(models=short), frames=16).get("short").transform.frames == 8
    with pytest.raises(ValueError, match="windows of 16 frames, but the default model short reads 8"):
        read_catalogue(ModelsConfig(models=short, default="short"), frames=16)
    with pytest.raises(BundleError, match="no such bundle"):
        read_catalogue(ModelsConfig(models={"gone": str(tmp_path / "gone")}))


def test_bundles_as_people_name_them(tmp_path: Path) -> None:
    other = changed(tmp_path / "other")
    models = models_of(["packaged", f"candidate={other}"], canary="candidate:0.1")
    assert models.models == {"cafer-synthfer": "packaged", "candidate": str(other)}
    assert models.canary == Share(model="candidate", fraction=0.1)
    with pytest.raises(ValueError, match=r"two models are named 'cafer-synthfer': give one another name, as NAME="):
        models_of(["packaged", str(other)])
    with pytest.raises(ValueError, match=r"--shadow candidate: write NAME:FRACTION, such as candidate:0.1"):
        models_of(["packaged"], shadow="candidate")


def test_a_release_is_that_of_weights_and_configuration(tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(PACKAGED, copy)
    assert release(copy) == release(PACKAGED)
    assert release(copy).startswith(f"{read_config(PACKAGED).version}+")
    weights = bytearray((copy / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (copy / "model.safetensors").write_bytes(weights)
    assert release(copy) != release(PACKAGED)
    assert release(changed(tmp_path / "b", canvas=48)) != release(PACKAGED)


def test_who_knows_the_models_goes_on_when_nobody_lists_them() -> None:
    known = read_catalogue(models_of(["packaged"]))
    answers: list[Catalogue | Exception] = [RuntimeError("not up yet"), known, RuntimeError("away")]

    def fetch() -> Catalogue:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    routes = Routes(fetch, look_every_s=0)
    with pytest.raises(RuntimeError, match="not up yet"):
        routes.current()
    assert routes.current() is known
    assert routes.current() is known
    assert not answers
