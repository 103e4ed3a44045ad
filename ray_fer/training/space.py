"""What a search may choose: text such as "optimizer.lr=loguniform(1e-6, 1e-3)" to what Ray Tune draws from.

The text is taken apart by Python's parser and never run.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ray_fer.training.recipe import Recipe, overridden

KINDS = {
    "uniform": "uniform(low, high)",
    "loguniform": "loguniform(low, high): uniform in its logarithm",
    "quniform": "quniform(low, high, step): uniform, in multiples of step",
    "qloguniform": "qloguniform(low, high, step)",
    "randint": "randint(low, high): whole numbers, without high",
    "lograndint": "lograndint(low, high): whole numbers, uniform in their logarithm, without high",
    "choice": "choice(a, b, ...): one of them at random",
    "grid": "grid(a, b, ...): each of them in turn",
}
_RANGES = ("uniform", "loguniform", "quniform", "qloguniform", "randint", "lograndint")
_WHOLE = ("randint", "lograndint")
_WORDS = {"null": None, "true": True, "false": False}  # JSON's, as in --set


@dataclass(frozen=True)
class Dimension:
    """What one field is drawn from: a key of `KINDS` with its arguments (the values of `choice` and `grid`)."""

    kind: str
    values: tuple[Any, ...]

    def __str__(self) -> str:
        return f"{self.kind}({', '.join(json.dumps(value) for value in self.values)})"

    def examples(self) -> list[Any]:
        """Values that can come up: all of them, or the ends of a range (an open end just within it)."""
        if self.kind not in _RANGES:
            return list(self.values)
        low, high = self.values[:2]
        if self.kind in _WHOLE:
            return [low, high - 1]
        margin = 1e-6 * (high - low)
        return [low + margin, high - margin]

    def to_tune(self) -> Any:
        """Ray Tune's domain."""
        from ray import tune

        if self.kind == "grid":
            return tune.grid_search(list(self.values))
        if self.kind == "choice":
            return tune.choice(list(self.values))
        return getattr(tune, self.kind)(*self.values)


def parse_space(texts: Sequence[str]) -> dict[str, Dimension]:
    """Dimensions by field of the recipe, from texts "FIELD=KIND(...)".

    Raises ValueError that lists what is possible; fields are checked by `check_space`.
    """
    space: dict[str, Dimension] = {}
    for text in texts:
        field, equals, drawn = (part.strip() for part in text.partition("="))
        if not (field and equals and drawn):
            raise ValueError(
                f"{text!r} is no search; write FIELD=KIND(...), such as optimizer.lr=loguniform(1e-6,1e-3)"
            )
        if field in space:
            raise ValueError(f"{field} is searched twice; give it once")
        space[field] = _dimension(drawn, text)
    if not space:
        raise ValueError("nothing to search; give --search FIELD=KIND(...), such as optimizer.lr=loguniform(1e-6,1e-3)")
    return space


def settings_of(config: dict[str, Any]) -> list[str]:
    """Drawn values as the texts that --set takes."""
    return [f"{field}={json.dumps(value)}" for field, value in config.items()]


def check_space(recipe: Recipe, space: dict[str, Dimension]) -> None:
    """Raise ValueError when a field is none of the recipe's, or a value that can come up is not allowed for it."""
    for field, dimension in space.items():
        for value in dimension.examples():
            overridden(recipe, settings_of({field: value}))


def _dimension(drawn: str, text: str) -> Dimension:
    try:
        call = ast.parse(drawn, mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:  # all of them are what ast.parse raises
        raise _impossible(text, "that is not KIND(...)") from error
    if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name):
        raise _impossible(text, "that is not KIND(...)")
    kind = call.func.id
    if kind not in KINDS:
        raise _impossible(text, f"unknown kind {kind!r}")
    if call.keywords:
        raise _impossible(text, "arguments have no names here")
    values = tuple(_value(node, text) for node in call.args)
    if kind in _RANGES:
        _check_range(kind, values, text)
    elif not values:
        raise _impossible(text, "there is nothing to choose from")
    return Dimension(kind, values)


def _value(node: ast.expr, text: str) -> Any:
    if isinstance(node, ast.Name):
        return _WORDS.get(node.id, node.id)
    try:
        value = ast.literal_eval(node)
        return json.loads(json.dumps(value, allow_nan=False))  # tuples as lists; what JSON cannot say is refused
    except (ValueError, TypeError, RecursionError) as error:
        raise _impossible(text, f"{ast.unparse(node)!r} is no number, text, list, true, false or null") from error


def _check_range(kind: str, values: tuple[Any, ...], text: str) -> None:
    wanted = 3 if kind.startswith("q") else 2
    if len(values) != wanted:
        raise _impossible(text, f"{kind} takes {wanted} numbers, not {len(values)}")
    if any(isinstance(value, bool) or not isinstance(value, int | float) for value in values):
        raise _impossible(text, f"{kind} takes numbers")
    if kind in _WHOLE and not all(isinstance(value, int) for value in values):
        raise _impossible(text, f"{kind} takes whole numbers")
    low, high = values[:2]
    if not low < high:
        raise _impossible(text, f"{low} is not below {high}")
    if "log" in kind and low <= 0:
        raise _impossible(text, f"a logarithm needs numbers above 0, not {low}")
    if kind.startswith("q"):
        _check_step(low, high, values[2], text)


def _check_step(low: float, high: float, step: float, text: str) -> None:
    if step <= 0:
        raise _impossible(text, f"a step of {step} leads nowhere")
    if any(abs(end / step - round(end / step)) > 1e-6 for end in (low, high)):  # as Ray Tune wants it
        raise _impossible(text, f"{low} and {high} must be multiples of the step {step}")


def _impossible(text: str, why: str) -> ValueError:
    return ValueError(f"{text!r}: {why}; possible are {'; '.join(KINDS.values())}")
