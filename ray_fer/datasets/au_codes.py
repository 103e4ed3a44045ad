"""Action Unit strings of FACS coders, such as ``4+L10``, ``12+15``, ``R14``, ``15A`` or ``9 or 10``."""

from __future__ import annotations

import re
from dataclasses import dataclass

_CODE = re.compile(r"(?:AU)?([LR])?(\d{1,2})([A-E])?([LR])?", re.IGNORECASE)


@dataclass(frozen=True)
class AUCode:
    """One coded AU: its number, side (L, R or None for both), intensity (A to E or None).

    `certain` is False for the alternatives of an "or".
    """

    au: int
    side: str | None = None
    intensity: str | None = None
    certain: bool = True


def parse_au_codes(text: str) -> tuple[list[AUCode], list[str]]:
    """Codes in `text`, and the words in it that are no code ("?" and other remarks), in order."""
    codes, strange = [], []
    for group in re.split(r"[+,;&]", text):
        alternatives = re.split(r"\bor\b|/", group, flags=re.IGNORECASE)
        for word in (word for part in alternatives for word in part.split()):
            match = _CODE.fullmatch(word)
            if match is None or (match.group(1) and match.group(4)):
                strange.append(word)
                continue
            side, number, intensity = match.group(1) or match.group(4), match.group(2), match.group(3)
            codes.append(
                AUCode(
                    int(number),
                    side.upper() if side else None,
                    intensity.upper() if intensity else None,
                    certain=len(alternatives) == 1,
                )
            )
    return codes, strange
