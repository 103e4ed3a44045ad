"""cluster/README.md and the headings of the files: what they tell people to type exists, and nothing is left out."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from pathlib import Path

import pytest

from ray_fer.serving.options import ServingOptions
from tests.cluster.manifests import CLUSTER, KUBERAY, ROOT, documents, parse
from tests.cluster.test_compose import SERVICES, command_exists

TEXT = (CLUSTER / "README.md").read_text()
FILES = sorted(path for path in CLUSTER.rglob("*") if path.is_file() and path.suffix in (".yaml", ".yml", ".py"))


def _typed() -> list[str]:
    """Commands of ours and Ray's in the text and in comments of the files, without what is put in place of capitals."""
    texts = [TEXT, *(path.read_text() for path in FILES)]
    inline = re.findall(r"`((?:ray-fer|ray|serve) [^`]+)`", TEXT)
    blocks = [
        line.partition("  #")[0].strip()
        for text in texts
        for line in re.findall(r"^(?:# )?    ((?:ray-fer|ray|serve) .*)$", text, re.MULTILINE)
    ]
    return sorted(set(inline + blocks))


@pytest.mark.parametrize("command", _typed())
def test_commands_exist(command: str) -> None:
    words = shlex.split(command)
    command_exists(words, whole=len(words) > 2)


def test_there_are_commands() -> None:
    assert "ray-fer keys create NAME --file keys.json" in _typed()
    assert "serve deploy cluster/serve.yaml --address http://HEAD:8265" in _typed()


def test_every_alert_has_its_row() -> None:
    (alerts,) = documents(CLUSTER / "prometheus" / "alerts.yml")
    names = [rule["alert"] for group in alerts["groups"] for rule in group["rules"]]
    assert re.findall(r"^\| `(RayFer\w+)` \|", TEXT, re.MULTILINE) == names


def test_panels_that_are_named_exist() -> None:
    dashboard = json.loads((CLUSTER / "grafana" / "dashboards" / "ray-fer.json").read_text())
    titles = [panel["title"] for panel in dashboard["panels"]]
    named = re.findall(r'"([A-Z][^"]+)"', TEXT.replace('"How fast it is"', ""))
    assert named
    for name in named:
        assert any(title.startswith(name) for title in titles), name


def test_every_file_is_listed_and_every_link_leads_somewhere() -> None:
    for link in re.findall(r"\]\(([^)]+)\)", TEXT):
        assert (CLUSTER / link).exists(), link
    for path in KUBERAY.iterdir():
        assert path.name in TEXT or path.name == "__pycache__", path.name
    for path in CLUSTER.iterdir():
        assert path.name in TEXT or path.name in (".gitignore", ".env", "README.md", "kuberay", "models"), path.name


def test_settings_that_are_shown_are_accepted() -> None:
    shown = re.findall(r"`((?:workers|faces|expressions|expression_gpus|apis): [^`]+)`", TEXT)
    assert len(shown) >= 5
    for setting in shown:
        ServingOptions.model_validate(parse(setting)[0])
    ServingOptions.model_validate({"stream": parse(*re.findall(r"`(freshness: {[^`]+})`", TEXT))[0]})


def test_services_of_compose_that_are_named_exist() -> None:
    for path in (CLUSTER / "README.md", CLUSTER / "compose.yaml"):
        for command in re.findall(r"(docker compose [^`\n#]+)", path.read_text()):
            words = shlex.split(command)
            assert words[2:4] == ["-f", "cluster/compose.yaml"]
            named = [word.partition("=")[0] for word in words[4:] if not word.startswith("-")]
            assert set(named) <= {"up", "down", "gpu", *SERVICES}, command


def test_the_paths_of_commands_exist() -> None:
    for path in (CLUSTER / "README.md", *FILES):
        for named in re.findall(
            r"(?:-f |--patch-file |python |--from-file=)(cluster/[\w./-]+)", Path(path).read_text()
        ):
            assert (ROOT / named).is_file(), f"{path}: {named}"


def test_the_token_is_made_as_it_is_shown() -> None:
    (line,) = re.findall(
        r'^#     (echo "RAY_AUTH_TOKEN=.*") > cluster/\.env', (CLUSTER / "compose.yaml").read_text(), re.M
    )
    printed = subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=True).stdout
    assert re.fullmatch(r"RAY_AUTH_TOKEN=[0-9a-f]{64}\n", printed)
