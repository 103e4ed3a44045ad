"""PromQL as Prometheus reads it: which metrics an expression asks for."""

from __future__ import annotations

import re
from dataclasses import dataclass

import promql_parser

_VARIABLES = {"$__rate_interval": "5m", "$__interval": "1m", "$__range": "1h"}
"""Of Grafana, which are not PromQL."""


@dataclass(frozen=True)
class Asked:
    """A metric, and the labels with the values that are asked for."""

    metric: str
    labels: tuple[tuple[str, str], ...]


def asked(expression: str) -> set[Asked]:
    """What an expression asks for. Raises ValueError where it is no PromQL."""
    for name, value in _VARIABLES.items():
        expression = expression.replace(name, value)
    found = set()

    def visit(node: promql_parser.Expr) -> None:
        selector = node.vector_selector if isinstance(node, promql_parser.MatrixSelector) else node
        if isinstance(selector, promql_parser.VectorSelector):
            matchers = selector.matchers.matchers
            found.add(Asked(selector.name or "", tuple((one.name, one.value) for one in matchers)))

    promql_parser.walk(promql_parser.parse(expression), visit)
    return found


def grouped_by(expression: str) -> set[str]:
    """Labels by which an expression groups."""
    return {label.strip() for labels in re.findall(r"\bby \(([^)]*)\)", expression) for label in labels.split(",")}
