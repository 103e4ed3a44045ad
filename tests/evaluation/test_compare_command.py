"""`ray-fer compare`: what a user types, sees, and gets."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner, Result

from ray_fer.cli.compare import compare
from ray_fer.labels import EXPRESSIONS

app = typer.Typer()
app.command()(compare)


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)


def write(folder: Path, **more: Any) -> Path:
    """A report folder as `ray-fer evaluate` leaves it."""
    score = {"value": 0.61, "low": 0.60, "high": 0.62}
    made = {
        "format": 1,
        "model": {"name": folder.name, "version": "1", "registry": "hdf"},
        "protocol": {"name": "5-fold", "selection": "validation"},
        "datasets": ["dfew"],
        "synthetic": False,
        "metrics": {
            "uar": score, "war": score, "macro_f1": score, "count": 11_697, "recall": dict.fromkeys(EXPRESSIONS, 0.5)
        },
        "groups": {"culture": {"African": {"uar": 0.5, "war": 0.6, "count": 100}}},
    }  # fmt: skip
    folder.mkdir(parents=True)
    (folder / "report.json").write_text(json.dumps(made | more))
    return folder


def synthetic(folder: Path) -> Path:
    return write(folder, datasets=["synthfer"], synthetic=True, protocol={"name": "fixed", "selection": "validation"})


def test_two_reports_and_the_published_rows(tmp_path: Path) -> None:
    result = run(write(tmp_path / "mine"), write(tmp_path / "other"))
    assert result.exit_code == 0
    assert "| mine 1 | dfew | 5-fold | 11697 |" in result.stdout
    assert "| *dfew, 5-fold: published* |" in result.stdout
    assert "| HDF‡ | DFEW | 5-fold | - | 60.40 | 71.60 | - | hdf-table-1 |" in result.stdout
    assert "published*" not in run(tmp_path / "mine", "--no-published").stdout


def test_synthfer_is_apart_in_every_format(tmp_path: Path) -> None:
    folders = [write(tmp_path / "mine"), synthetic(tmp_path / "synth")]
    for form in ("markdown", "latex", "csv"):
        text = run(*folders, "--format", form).stdout
        real, made_up = text[: text.index("SynthFER (synthetic)")], text[text.index("SynthFER (synthetic)") :]
        assert "synth 1" not in real
        assert "HDF" in real
        assert "HDF" not in made_up
        assert "published: " not in made_up
        assert "compare to nothing published" in made_up


def test_columns_of_classes_and_cultures_are_asked_for(tmp_path: Path) -> None:
    folder = write(tmp_path / "mine")
    assert "Disgust" not in run(folder).stdout
    assert "African" not in run(folder).stdout
    text = run(folder, "--per-class", "--per-culture").stdout
    assert "| Disgust |" in text
    assert "| African UAR | African WAR |" in text


@pytest.mark.parametrize(("name", "start"), [("t.md", "### "), ("t.tex", "% needs"), ("t.csv", "Table,"), ("t", "###")])
def test_the_format_follows_the_output(tmp_path: Path, name: str, start: str) -> None:
    folder, output = write(tmp_path / "mine"), tmp_path / "new" / name
    result = run(folder, "--no-published", "-o", output)
    assert result.exit_code == 0
    assert output.read_text().startswith(start)
    assert result.stdout == ""
    assert "1 rows" in result.stderr
    assert "exists" in run(folder, "-o", output).stderr
    assert run(folder, "-o", output, "--overwrite", "--format", "latex").exit_code == 0
    assert output.read_text().startswith("% needs")


def test_latex_escapes_a_name(tmp_path: Path) -> None:
    assert r"50\%\_a\&b 1 & dfew & 5-fold" in run(write(tmp_path / "50%_a&b"), "--format", "latex").stdout


def test_csv_keeps_notes_out_of_the_table(tmp_path: Path) -> None:
    result = run(write(tmp_path / "mine"), "--format", "csv")
    assert "note: " not in result.stdout
    assert "note: dfew, 5-fold: left out is OUS" in result.stderr


def test_json_holds_the_numbers(tmp_path: Path) -> None:
    (made,) = json.loads(run(write(tmp_path / "mine"), "--json").stdout)
    own, published = made["blocks"]
    assert own["rows"][0]["UAR"]["value"] == pytest.approx(61.0)
    assert (own["published"], published["published"]) == (False, True)


def test_another_protocol_says_that_nothing_is_beside_it(tmp_path: Path) -> None:
    text = run(write(tmp_path / "mine", protocol={"name": "fixed", "selection": "validation"})).stdout
    assert "published figures are under 5-fold" in text
    assert "published*" not in text


def test_published_tables_are_listed_and_printed() -> None:
    listed = run("--table", "list").stdout
    assert "| hdf-table-1 | results | DFEW | 5-fold |" in listed
    assert "| d | yes | yes | 73.24 | 61.31 |" in run("--table", "hdf-table-3").stdout
    assert r"CA-FER (Proposed)$^{\ddagger}$ & 63.93 & 65.21 & 2026" in run(
        "--table", "cafer-table-4", "--format", "latex"
    ).stdout  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        ([], "nothing to compare: give folders"),
        (["nowhere"], "nowhere/report.json: no such report; `ray-fer evaluate BUNDLE CLIPS -o nowhere` writes one"),
        (["--table", "hdf-table-9"], "no published table 'hdf-table-9'; there are cafer-table-2"),
        (["a", "--table", "hdf-table-1"], "leave out either it or the reports"),
    ],
)
def test_bad_input_is_one_line(
    arguments: list[str], part: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = run(*arguments)
    assert result.exit_code == 2
    assert result.stderr.startswith("error: ")
    assert len(result.stderr.splitlines()) == 1
    assert part in result.stderr


def test_help_teaches() -> None:
    text = " ".join(run("--help").stdout.split())
    for part in ("ray-fer compare runs/dfew-cafer", "SynthFER", "test fold", "--table", "--per-culture"):
        assert part in text
