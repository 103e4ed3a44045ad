"""Where on the face each Action Unit shows: polygons of MediaPipe's landmarks, one for each side of the person.

Which muscle moves in an AU is from FACS (Ekman, Friesen and Hager, Facial Action Coding System, 2002, the "muscular
basis" of each AU). FACS draws no outlines on anybody's mesh: the polygons are ours, placed by hand over the muscle and
the skin that it moves, and checked by eye on MediaPipe's canonical face. They overlap, as muscles do: AU12 pulls where
AU14 and AU15 do. An AU of the jaw, the nose or the lips is cut at the midline of the face.

*Left* is the person's own left, which is on the right of a picture that is not mirrored.
"""

from __future__ import annotations

from typing import Literal, get_args

import cv2
import numpy as np

from ray_fer.labels import index_of

Side = Literal["left", "right"]
SIDES: tuple[Side, ...] = get_args(Side)

_LIPS = (0, 37, 39, 40, 185, 61, 146, 91, 181, 84, 17)
_RIGHT: dict[str, tuple[int, ...]] = {
    "AU01": (65, 55, 9, 151, 108, 69, 66),  # frontalis, pars medialis
    "AU02": (46, 53, 52, 65, 66, 69, 104, 68, 70),  # frontalis, pars lateralis
    "AU04": (66, 107, 9, 168, 193, 221, 222, 65),  # corrugator, depressor supercilii, depressor glabellae
    "AU05": (33, 113, 225, 224, 223, 222, 221, 133, 173, 157, 158, 159, 160, 161, 246),  # levator palpebrae superioris
    "AU06": (  # orbicularis oculi, pars orbitalis
        124, 35, 31, 228, 229, 230, 231, 120, 100, 101, 50, 123, 116, 143, 156,
    ),
    "AU07": (  # orbicularis oculi, pars palpebralis
        130, 247, 30, 29, 27, 28, 56, 190, 243, 233, 232, 231, 230, 229, 228, 31,
    ),
    "AU09": (  # levator labii superioris alaeque nasi
        6, 245, 128, 47, 126, 142, 129, 64, 115, 220, 45, 5, 195, 197,
    ),
    "AU10": (142, 36, 206, 92, 39, 37, 0, 164, 2, 97, 98, 64, 129),  # levator labii superioris
    "AU11": (203, 36, 101, 50, 207, 216, 92, 165),  # zygomaticus minor
    "AU12": (50, 205, 206, 92, 40, 91, 43, 212, 187, 147, 123),  # zygomaticus major
    "AU14": (40, 92, 207, 214, 202, 43, 91),  # buccinator
    "AU15": (185, 57, 214, 135, 169, 211, 204, 106, 91),  # depressor anguli oris
    "AU17": (17, 84, 182, 194, 32, 140, 171, 175),  # mentalis
    "AU20": (185, 216, 192, 138, 210, 106, 91),  # risorius
    "AU23": _LIPS,  # orbicularis oris
    "AU24": (164, 167, 165, 92, 186, 57, 43, 106, 182, 83, 18),  # orbicularis oris, from around the lips
    "AU25": (0, 37, 39, 40, 185, 61, 43, 106, 182, 83, 18),  # depressor labii, or mentalis or orbicularis oris relaxed
    "AU26": (13, 80, 61, 43, 202, 210, 169, 150, 149, 176, 148, 152),  # masseter and others relaxed: the jaw falls
    "AU28": _LIPS,  # orbicularis oris
    "AU43": (  # levator palpebrae superioris relaxed: the lid, and the eye that it closes
        33, 113, 225, 224, 223, 222, 221, 133, 155, 154, 153, 145, 144, 163, 7,
    ),
}  # fmt: skip
_RIGHT_FACE = (
    10, 109, 67, 103, 54, 21, 162, 127, 234, 93, 132, 58, 172, 136, 150, 149, 176, 148, 152, 175, 199, 200, 18, 164,
    168, 9, 151,
)  # fmt: skip
_MIDLINE = frozenset((0, 2, 5, 6, 9, 10, 13, 17, 18, 151, 152, 164, 168, 175, 195, 197, 199, 200))
_PAIRS = (
    (7, 249), (21, 251), (27, 257), (28, 258), (29, 259), (30, 260), (31, 261), (32, 262), (33, 263), (35, 265),
    (36, 266), (37, 267), (39, 269), (40, 270), (43, 273), (45, 275), (46, 276), (47, 277), (50, 280), (52, 282),
    (53, 283), (54, 284), (55, 285), (56, 286), (57, 287), (58, 288), (61, 291), (64, 294), (65, 295), (66, 296),
    (67, 297), (68, 298), (69, 299), (70, 300), (80, 310), (84, 314), (91, 321), (92, 322), (93, 323), (97, 326),
    (98, 327), (100, 329), (101, 330), (103, 332), (104, 333), (106, 335), (107, 336), (108, 337), (109, 338),
    (113, 342), (115, 344), (116, 345), (120, 349), (123, 352), (124, 353), (126, 355), (127, 356), (128, 357),
    (129, 358), (130, 359), (132, 361), (133, 362), (135, 364), (136, 365), (138, 367), (140, 369), (142, 371),
    (143, 372), (144, 373), (145, 374), (146, 375), (147, 376), (148, 377), (149, 378), (150, 379), (153, 380),
    (154, 381), (155, 382), (156, 383), (157, 384), (158, 385), (159, 386), (160, 387), (161, 388), (162, 389),
    (163, 390), (165, 391), (167, 393), (169, 394), (171, 396), (172, 397), (173, 398), (176, 400), (181, 405),
    (182, 406), (83, 313), (185, 409), (186, 410), (187, 411), (190, 414), (192, 416), (193, 417), (194, 418),
    (202, 422), (203, 423), (204, 424), (205, 425), (206, 426), (207, 427), (210, 430), (211, 431), (212, 432),
    (214, 434), (216, 436), (220, 440), (221, 441), (222, 442), (223, 443), (224, 444), (225, 445), (228, 448),
    (229, 449), (230, 450), (231, 451), (232, 452), (233, 453), (234, 454), (243, 463), (245, 465), (246, 466),
    (247, 467),
)  # fmt: skip
_LEFT_OF = dict(_PAIRS) | {one: one for one in _MIDLINE}


def _sides(right: tuple[int, ...]) -> dict[Side, tuple[int, ...]]:
    return {"left": tuple(_LEFT_OF[one] for one in right), "right": right}


REGIONS: dict[str, dict[Side, tuple[int, ...]]] = {name: _sides(right) for name, right in _RIGHT.items()}
"""Corners of each AU's region, in order around it, as indices of the 478 landmarks."""

FACE = _sides(_RIGHT_FACE)
"""The two halves of the face, from the hairline's lower edge to the chin."""

_HAPPY, _SAD, _DISGUST = ("AU06", "AU12"), ("AU01", "AU04", "AU15"), ("AU09", "AU10", "AU15", "AU17")
_ANGRY, _CONTEMPT = ("AU04", "AU05", "AU07", "AU23", "AU24"), ("AU12", "AU14")
_FEAR = ("AU01", "AU02", "AU04", "AU05", "AU07", "AU20", "AU26")
_SURPRISE = ("AU01", "AU02", "AU05", "AU26")
EXPRESSION_AUS: dict[str, tuple[str, ...]] = {
    "Angry": _ANGRY, "Disgust": _DISGUST, "Fear": _FEAR, "Happy": _HAPPY, "Sad": _SAD, "Surprise": _SURPRISE,
    "Contempt": _CONTEMPT, "Anger": _ANGRY, "Happiness": _HAPPY, "Sadness": _SAD,
    "Positive": _HAPPY, "Negative": ("AU04", "AU07", "AU09", "AU10", "AU15"),
}  # fmt: skip
"""The AUs that a class is known by, for classes that have such: EMFACS's main signs (Friesen and Ekman 1983). Positive
and Surprise are those of EthnicMER's Figs 3 and 4; the paper has none for Negative, which here has the signs that
anger, disgust and sadness do not share with the other two classes."""


def outline(corners: tuple[int, ...], landmarks: np.ndarray) -> np.ndarray:
    """The corners of a region [K,2], where they lie on a face of `landmarks` [478,>=2]."""
    return landmarks[list(corners), :2]


def region_mask(au: str, side: Side, landmarks: np.ndarray, size: int) -> np.ndarray:
    """Pixels of one AU's region on one side, bool [size,size]; `landmarks` [478,>=2] are in pixels of that square.

    Raises ValueError for an AU or a side that is not known.
    """
    index_of(au, tuple(REGIONS), "Action Unit")
    index_of(side, SIDES, "side")
    return filled(REGIONS[au][side], landmarks, size)


def filled(corners: tuple[int, ...], landmarks: np.ndarray, size: int) -> np.ndarray:
    """Pixels inside a polygon and on its edge, bool [size,size]; what lies outside the square is cut off."""
    mask = np.zeros((size, size), np.uint8)
    cv2.fillPoly(mask, [outline(corners, landmarks).round().astype(np.int32)], 1)
    return mask.astype(bool)
