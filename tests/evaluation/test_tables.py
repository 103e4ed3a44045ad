"""Tables: how figures are written as Markdown, LaTeX and CSV, and the papers' own tables."""

from __future__ import annotations

import csv
import io
import re
from typing import Any

import pytest

from ray_fer.evaluation.compare import compare
from ray_fer.evaluation.published_tables import tables
from ray_fer.evaluation.tables import SYNTHETIC, latex_escaped, published_comparison, published_list, render
from tests.evaluation_reports import folds, report


def test_the_best_of_a_block_is_bold_when_there_is_a_choice() -> None:
    made = compare([report("a"), report("b", uar=0.63)])
    text = render(made, "markdown")
    assert "**63.00** [62.00, 64.00]" in text
    assert "| 61.00 [60.00, 62.00]" in text
    assert "**65.45**" in text  # S2D's, best of the published: a block of its own
    assert "**" not in render(compare([report("a")], published=False), "markdown")


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("my_model 50% & more", r"my\_model 50\% \& more"),
        (r"a\b {c} #1 $x$ ~ ^", r"a\textbackslash{}b \{c\} \#1 \$x\$ \textasciitilde{} \textasciicircum{}"),
        ("± †", r"$\pm$ $^{\dagger}$"),
    ],
)
def test_latex_escapes(text: str, escaped: str) -> None:
    assert latex_escaped(text) == escaped


def test_latex_is_a_booktabs_table_with_as_many_cells_in_each_row() -> None:
    made = compare([report("[50%]_a&b", folds=folds(0.6, 0.7)), report("b")], per_class=True)
    text = render(made, "latex")
    body = text[text.index(r"\toprule") : text.index(r"\bottomrule")].splitlines()
    rows = [line for line in body if line.endswith(r"\\") and "multicolumn" not in line]
    assert {len(re.findall(r"(?<!\\)&", row)) + 1 for row in rows} == {len(made[0].columns)}
    assert any(row.startswith(r"{}[50\%]\_a\&b 1 &") for row in rows)  # a bare [ would be read by \\
    assert rf"\multicolumn{{{len(made[0].columns)}}}{{l}}{{\textit{{dfew, 5-fold: published}}}} \\" in body
    assert r"\textbf{65.00} $\pm$ 7.07" in text
    assert text.count("{") == text.count("}")
    assert text.count(r"\begin{") == text.count(r"\end{") == 2


def test_markdown_rows_have_as_many_cells_whatever_a_name_holds() -> None:
    made = compare([report("a|b*\nc")], published=False)
    lines = [line for line in render(made, "markdown").splitlines() if line.startswith("|")]
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in lines} == {len(made[0].columns) + 1}
    assert r"a\|b\* c 1" in lines[-1]


def test_csv_holds_numbers_and_a_table_for_synthfer() -> None:
    made = compare([report("a", folds=folds(0.6, 0.7)), report("b"), report("s", "synthfer", synthetic=True)])
    real, synthetic = (list(csv.DictReader(io.StringIO(text))) for text in render(made, "csv").split("\n\n"))
    assert (real[0]["UAR"], real[0]["UAR std"], real[0]["UAR low"]) == ("65.00", "7.07", "")
    assert (real[1]["UAR"], real[1]["UAR low"], real[1]["Clips"]) == ("61.00", "60.00", "11697")
    assert {row["Published"] for row in real} == {"True", "False"}
    assert [row["Model"] for row in synthetic] == ["s 1"]
    assert synthetic[0]["Marks"] == SYNTHETIC
    assert not any(SYNTHETIC in row["Marks"] for row in real)


@pytest.mark.parametrize("one", tables(), ids=lambda one: one.id)
def test_every_published_table_can_be_printed(one: Any) -> None:
    made = published_comparison(one.id)
    assert sum(len(block.rows) for block in made.blocks) == len(one.rows)
    for form in ("markdown", "latex", "csv"):
        assert "**" not in render([made], form)  # type: ignore[arg-type]


def test_a_published_table_keeps_its_order_decimals_and_labels() -> None:
    text = render([published_comparison("cafer-table-3")], "markdown")
    assert text.index("*Culture-Agnostic Methods*") < text.index("| Former-DFER | 43.91 | 49.78 |")
    assert "| NR-DFERNet | 44.00 | 51.41 |" in text
    assert "| 6 (Ours) | 12 | 64 | 0.60937 | 0.74103 |" in render([published_comparison("ous-table-3")], "markdown")
    assert "‡ S2D: " in render([published_comparison("cafer-table-4")], "markdown")
    assert len(published_list().blocks[0].rows) == len(tables())
