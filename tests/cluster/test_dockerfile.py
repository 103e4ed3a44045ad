"""The Dockerfile and what it copies. It is not built here: these are the rules that a build would not check."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tests.cluster.manifests import CLUSTER, KUBERAY, ROOT, all_pod_templates, documents

DOCKERFILE = CLUSTER / "Dockerfile"
Instruction = tuple[str, str]


def instructions() -> Iterator[Instruction]:
    """Instructions with their arguments: comments left out, continued lines joined."""
    lines = [line for line in DOCKERFILE.read_text().splitlines() if not line.lstrip().startswith("#")]
    for line in re.sub(r"\\\n\s*", "", "\n".join(lines)).splitlines():
        if line.strip():
            name, _, arguments = line.strip().partition(" ")
            yield name, arguments


def stages() -> dict[str, list[Instruction]]:
    """By name; what stands before the first one is under the empty name."""
    found: dict[str, list[Instruction]] = {"": []}
    current = ""
    for name, arguments in instructions():
        if name == "FROM":
            current = arguments.rpartition(" AS ")[2]
            found[current] = []
        found[current].append((name, arguments))
    return found


def arguments_of(stage: str, name: str) -> list[str]:
    return [arguments for each, arguments in stages()[stage] if each == name]


def defaults() -> dict[str, str]:
    """ARGs before the first stage."""
    return {key: value.strip('"') for key, _, value in (one.partition("=") for one in arguments_of("", "ARG"))}


def requirements() -> list[Requirement]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return [Requirement(one) for one in project["dependencies"]]


def test_there_are_two_targets_of_one_build() -> None:
    assert list(stages()) == ["", "build", "cpu", "gpu"]
    for target in ("cpu", "gpu"):
        assert any(one.startswith("--from=build /opt/ray-fer ") for one in arguments_of(target, "COPY"))


def test_base_images_are_pinned() -> None:
    bases = [arguments.split()[0] for stage in stages() for arguments in arguments_of(stage, "FROM")]
    bases = [base.replace("${PYTHON_VERSION}", defaults()["PYTHON_VERSION"]) for base in bases]
    assert len(bases) == 3
    for base in bases:
        assert re.match(r"\d+\.\d+\.\d+-", base.partition(":")[2]), base
    # Ray compares the Python of workers with that of the head, to the last digit.
    assert len({base for base in bases if base.startswith("python:")}) == 1


def test_it_has_the_python_and_the_ray_that_the_package_asks_for() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert Requirement(f"python{project['requires-python']}").specifier.contains(defaults()["PYTHON_VERSION"])
    (ray,) = [one for one in requirements() if one.name == "ray"]
    assert ray.specifier.contains(defaults()["RAY_VERSION"])
    (install,) = [one for one in arguments_of("build", "RUN") if "requirements.txt" in one]
    assert f"ray[{','.join(sorted(ray.extras))}]==${{RAY_VERSION}}" in install


def test_all_that_is_deployed_has_the_same_ray() -> None:
    version = defaults()["RAY_VERSION"]
    images = {one["image"] for template in all_pod_templates().values() for one in template["spec"]["containers"]}
    (compose,) = documents(CLUSTER / "compose.yaml")
    images |= {one["image"] for one in compose["services"].values() if "ray-fer" in one["image"]}
    (cluster,) = documents(CLUSTER / "ray-cluster.yaml")
    images |= {cluster["docker"]["head_image"], cluster["docker"]["worker_image"]}
    images |= {one["docker"]["worker_image"] for one in cluster["available_node_types"].values() if "docker" in one}
    assert {image.rpartition(":")[2] for image in images} == {version, f"{version}-gpu"}
    for path in ("raycluster.yaml", "rayjob.yaml", "rayservice.yaml"):
        said = re.findall(r'rayVersion: "([^"]+)"', (KUBERAY / path).read_text())
        assert said == [version], path
    text = " ".join(path.read_text() for path in (DOCKERFILE, CLUSTER / "ray-cluster.yaml", CLUSTER / "README.md"))
    assert set(re.findall(r"(?:ray-fer:|ray\[default\]==)(\d+\.\d+\.\d+)", text)) == {version}


def test_system_libraries_are_those_of_opencv_and_mediapipe() -> None:
    packages = set(defaults()["PACKAGES"].split())
    assert {"libgl1", "libglib2.0-0", "libegl1", "libgles2"} <= packages
    assert {"wget", "rsync", "ca-certificates"} <= packages
    for target in ("cpu", "gpu"):
        (install,) = [one for one in arguments_of(target, "RUN") if "apt-get" in one]
        assert "--no-install-recommends" in install
        assert "rm -rf /var/lib/apt/lists/*" in install
        assert '<<< "$PACKAGES"' in install


@pytest.mark.parametrize("target", ["cpu", "gpu"])
def test_an_image_runs_as_nobody_in_particular(target: str) -> None:
    instructions = stages()[target]
    users = [arguments for name, arguments in instructions if name == "USER"]
    assert users == ["10001"]
    assert "useradd" in "".join(arguments_of(target, "RUN"))
    assert "--uid 10001" in "".join(arguments_of(target, "RUN"))
    assert "HOME=/home/ray" in "".join(arguments_of(target, "ENV"))
    # `ray up` appends its own command, and heads and workers are asked in other ways.
    assert not {name for name, _ in instructions} & {"ENTRYPOINT", "HEALTHCHECK", "ADD", "EXPOSE"}
    for template in all_pod_templates().values():
        assert template["spec"]["securityContext"]["runAsUser"] == 10001


def test_nothing_is_downloaded_but_packages() -> None:
    for stage in stages():
        for command in arguments_of(stage, "RUN"):
            assert not re.search(r"\b(curl|wget|git) ", command.replace("$PACKAGES", "")), command
            assert "://" not in command


def _kept(path: str) -> bool:
    """Whether a path reaches the build: the last pattern that fits decides."""
    kept = True
    for line in (CLUSTER / "Dockerfile.dockerignore").read_text().splitlines():
        if not line or line.startswith("#"):
            continue
        pattern = line.removeprefix("!")
        parents = [path, *map(str, Path(path).parents)]
        fits = any(fnmatch(one, pattern) for one in parents) or (
            pattern.startswith("**/") and pattern[3:] in Path(path).parts
        )
        if fits:
            kept = line.startswith("!")
    return kept


def test_what_is_copied_is_there_and_not_ignored() -> None:
    sources = [one for arguments in arguments_of("build", "COPY") for one in arguments.split()[:-1]]
    assert set(sources) == {"pyproject.toml", "README.md", "LICENSE", "ray_fer", "jobs"}
    for source in sources:
        assert (ROOT / source).exists()
        assert _kept(source)
    for needed in (
        "ray_fer/bundles/cafer-synthfer/config.json",
        "ray_fer/serving/static/index.html",
        "jobs/preprocess.py",
    ):
        assert (ROOT / needed).is_file()
        assert _kept(needed)
    for other in (".git/config", "cluster/.env", "tests/conftest.py", "ray_fer/cli/__pycache__/live.pyc", "data/a.mp4"):
        assert not _kept(other), other
