"""Expressions in words, their own names or visible facial movements, and the ids of these in CLIP's vocabulary."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

from ray_fer.labels import COMPOUND_EXPRESSIONS, EXPRESSIONS

LENGTH = 77
"""Tokens that CLIP's text tower reads."""

DESCRIPTIONS: dict[str, str] = {
    "Angry": "brows lowered and drawn together, hard staring eyes, tense lids, and lips pressed tight or squared open",
    "Disgust": "a wrinkled nose, a raised upper lip, deep folds from nose to mouth, and narrowed eyes",
    "Fear": "brows raised and pulled together, eyes wide with the whites showing, and lips stretched towards the ears",
    "Happy": "lip corners pulled up and back, raised cheeks, wrinkles beside the eyes, and often bared teeth",
    "Neutral": "a face at rest, with level brows, evenly opened eyes, smooth cheeks, and loosely closed lips",
    "Sad": "inner ends of the brows raised, drooping lids, lip corners pulled down, and a pushed up chin",
    "Surprise": "high curved brows, a creased forehead, wide open eyes, and a dropped jaw with parted lips",
    "Anxiety": "knitted brows, quick sideways glances, frequent blinking, bitten lips, and a tight jaw",
    "Contempt": "one lip corner tightened and raised, a lifted chin, and half closed eyes that look down",
    "Disappointment": "a falling gaze, slightly raised inner brows, closed lips drawn inward, and sinking lip corners",
    "Helplessness": "raised inner brows, an unfocused look, slack cheeks, a half open mouth, and a tilted head",
}
"""Our own, one for each of `COMPOUND_EXPRESSIONS`."""

_USUAL = {len(known): known for known in (EXPRESSIONS, COMPOUND_EXPRESSIONS)}


def named(classes: int, names: Sequence[str] | None) -> list[str]:
    """The name of each class, in their order: `names`, else `EXPRESSIONS` or `COMPOUND_EXPRESSIONS` for 7 or 11.

    Raises ValueError that says what to give.
    """
    known = names or _USUAL.get(classes)
    if known is None:
        raise ValueError(f"the names of {classes} classes are not known; give them as `class_names`")
    if len(known) != classes:
        raise ValueError(f"{len(known)} names for {classes} classes")
    return list(known)


def described(classes: int, names: Sequence[str] | None, descriptions: Sequence[str] | None) -> list[str]:
    """A text for each class, in their order.

    Taken from `descriptions`, else looked up by `names`, else those of `EXPRESSIONS` or `COMPOUND_EXPRESSIONS` for
    7 or 11 classes. Raises ValueError that says what to give.
    """
    if descriptions is None:
        names = names or _USUAL.get(classes)
        missing = [name for name in names or () if name not in DESCRIPTIONS]
        if names is None or missing:
            what = f"{classes} classes without names" if names is None else ", ".join(missing)
            raise ValueError(f"there are no descriptions of {what}; give one text for each class as `descriptions`")
        descriptions = [DESCRIPTIONS[name] for name in names]
    if len(descriptions) != classes:
        raise ValueError(f"{len(descriptions)} descriptions or names for {classes} classes")
    return list(descriptions)


def prompt_ids(texts: Sequence[str], contexts: int) -> list[list[int]]:
    """77 ids for each text: [SOS], `contexts` placeholders, the text, [EOS], and 0 to the end.

    Raises ValueError for a text that is too long.
    """
    tokenizer = _tokenizer()
    prompts = []
    for text in texts:
        ids = [tokenizer.sot_token_id, *[0] * contexts, *tokenizer.encode(text), tokenizer.eot_token_id]
        if len(ids) > LENGTH:
            raise ValueError(f"{len(ids)} tokens with {contexts} contexts, CLIP reads {LENGTH}; shorten {text!r}")
        prompts.append(ids + [0] * (LENGTH - len(ids)))
    return prompts


@cache
def _tokenizer() -> Any:
    """CLIP's. It reads its vocabulary of 49,408 anew each time that it is made."""
    from open_clip import SimpleTokenizer

    return SimpleTokenizer()
