"""Damaged lists: whatever is done to a file, the answer is a clear error or true labels."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ray_fer.datasets import read
from ray_fer.datasets.au_codes import parse_au_codes
from ray_fer.datasets.label_maps import MAFW_WORDS
from ray_fer.datasets.readers.gccfer import _ethnicities
from ray_fer.datasets.reading import DatasetError, Report
from ray_fer.datasets.tables import read_csv, read_sheet, read_words
from ray_fer.labels import CULTURES
from tests.datasets.readers import test_eila, test_ferv39k, test_mafw, test_micro
from tests.datasets.readers.trees import dfew_frames, dfew_lists, frames, text, video

damage = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


@st.composite
def damaged(draw: st.DrawFn, content: bytes) -> bytes:
    """`content` after one to three accidents that happen to lists: in editors, in copies, in transfer."""
    for _ in range(draw(st.integers(1, 3))):
        lines = content.split(b"\n")
        where = draw(st.integers(0, max(0, len(lines) - 1)))
        match draw(st.integers(0, 10)):
            case 0:
                content = b"\xef\xbb\xbf" + content
            case 1:
                content = content.replace(b"\n", b"\r\n")
            case 2:  # a line twice
                content = b"\n".join([*lines[: where + 1], *lines[where:]])
            case 3:  # a line lost, the header too
                content = b"\n".join(lines[:where] + lines[where + 1 :])
            case 4:  # bytes that are no text
                at = draw(st.integers(0, len(content)))
                content = content[:at] + draw(st.binary(min_size=1, max_size=4)) + content[at:]
            case 5:
                content = content[: draw(st.integers(0, len(content)))]
            case 6:  # columns in another order
                content = b"\n".join(b",".join(reversed(line.split(b","))) for line in lines)
            case 7:  # a cell emptied
                content = b"\n".join([*lines[:where], lines[where].split(b",")[0] + b",", *lines[where + 1 :]])
            case 8:
                content = content.replace(b",", b";")
            case 9:  # another label in one line
                digit = str(draw(st.integers(0, 9))).encode()
                lines[where] = re.sub(rb"\d(\r?)$", digit + rb"\1", lines[where])
                content = b"\n".join(lines)
            case _:
                content = content.upper() + b"\n\n\n"
    return content


def check(name: str, root: Path, truth: dict[str, str], named: dict[str, str], **options: object) -> None:
    """Read; every clip that comes out has its true label, and every line whose clip does not come out is reported.

    `named[clip]` is a pattern of the lines that name a clip.
    """
    try:
        reading = read(name, root, **options)
    except DatasetError as error:
        if len(str(error).splitlines()) != 1:
            pytest.fail(f"not one line: {error}")
        return
    for clip in reading.clips:
        assert clip.label == truth[clip.clip_id]
    reported = {(problem.file, problem.line) for problem in reading.report.problems}
    reasons = " ".join(problem.reason for problem in reading.report.problems)
    files = [
        path for path in root.rglob("*") if path.suffix in (".csv", ".txt") and path.stem not in ("val", "label_index")
    ]
    for clip in set(truth) - {clip.clip_id for clip in reading.clips}:
        for path in files:
            for number, line in enumerate(path.read_bytes().split(b"\n"), start=1):
                if re.search(named[clip], line.decode(errors="replace")):
                    told = (path, number) in reported or clip.split("/", 1)[1] in reasons
                    assert told, f"{clip} is named in {path}:{number} ({line!r}) and was lost without a word"


@pytest.mark.parametrize("variant", ["official", "s2d", "dfer-clip", "mae-dfer"])
@damage
@given(data=st.data())
def test_damaged_dfew_lists(variant: str, data: st.DataObject) -> None:
    """One damaged list of ten: the others still name its clips, so a wrong label would be a contradiction."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        truth = dfew_lists(root, variant)
        dfew_frames(root, list(truth))
        files = sorted(path for path in root.rglob("*") if path.suffix in (".csv", ".txt") and path.stem != "val")
        path = data.draw(st.sampled_from(files))
        path.write_bytes(data.draw(damaged(path.read_bytes())))
        named = {f"dfew/{clip}": rf"^\ufeff?0*{int(clip)},|/0*{int(clip)} " for clip in truth}
        check("dfew", root, {f"dfew/{clip}": label for clip, (label, _) in truth.items()}, named)


@pytest.mark.parametrize("variant", ["official", "s2d", "dfer-clip", "mae-dfer"])
@damage
@given(data=st.data())
def test_damaged_ferv39k_lists(variant: str, data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for clip in test_ferv39k.CLIPS:
            frames(root / "2_ClipsforFaceCrop" / clip, ["1.jpg"])
        test_ferv39k.lists(root, variant)
        path = data.draw(st.sampled_from(sorted(p for p in root.rglob("*") if p.suffix in (".csv", ".txt"))))
        path.write_bytes(data.draw(damaged(path.read_bytes())))
        truth = {f"ferv39k/{clip}": clip.split("/")[1] for clip in test_ferv39k.CLIPS}
        check("ferv39k", root, truth, {f"ferv39k/{clip}": rf"\b{clip}[ ,]" for clip in test_ferv39k.CLIPS})


@damage
@given(data=st.data())
def test_damaged_mafw_words_lists(data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for clip in test_mafw.TRUTH:
            frames(root / "frames" / clip, ["1.jpg"])
        test_mafw.lists(root, "captions")
        path = data.draw(st.sampled_from(sorted(root.rglob("*.txt"))))
        path.write_bytes(data.draw(damaged(path.read_bytes())))
        truth = {f"mafw/{clip}": label for clip, label in test_mafw.TRUTH.items()}
        check("mafw", root, truth, {f"mafw/{clip}": rf"\b{clip}\.mp4\t" for clip in test_mafw.TRUTH})


@pytest.fixture(scope="module")
def eila_videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("eila")
    video(root / "vid.mp4", count=12)
    return root


@damage
@given(data=st.data())
def test_damaged_eila_lists(eila_videos: Path, data: st.DataObject) -> None:
    labels = ("Anger", "Happy", "Sad")
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        rows = [test_eila.row(f"['{labels[n % 3]}'], 'No annotation', 'No annotation'", n, n) for n in range(9)]
        path = text(root / "Annotations/annotations.csv", "\n".join([test_eila.HEADER, *rows]))
        path.write_bytes(data.draw(damaged(path.read_bytes())))
        try:
            reading = read("eila", root, media=eila_videos)
        except DatasetError:
            return
        for clip in reading.clips:
            assert clip.label == ("Angry", "Happy", "Sad")[int(clip.clip_id.split("/")[4]) % 3]
            assert clip.bbox is not None


@damage
@given(content=st.binary(max_size=300))
def test_any_bytes_as_a_table(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = text(Path(folder) / "table.csv", content)
        sheet = text(Path(folder) / "sheet.xlsx", content)
        for reader in (
            lambda: read_csv(path, Report(), ["path", "label"]),
            lambda: read_words(path, Report(), ["path", "label"]),
            lambda: read_sheet(sheet, Report(), ["path", "label"]),
        ):
            try:
                rows = reader()
            except DatasetError:
                continue
            assert all(row["path"] is not None and row.line >= 1 for row in rows)


WORDS = st.sampled_from(["happy", "Sadness", " FEAR ", "1", ""]) | st.text(
    st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), max_size=12
)


@damage
@given(rows=st.lists(st.tuples(st.sampled_from(["a.mp4", "b.mp4"]), WORDS), max_size=6))
def test_any_words_as_labels(rows: list[tuple[str, str]]) -> None:
    """Free text in the label column: what comes out is an expression, and both rows of a torn clip go."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        frames(root / "a.mp4", ["1.jpg"])
        frames(root / "b.mp4", ["1.jpg"])
        quoted = ['{},"{}"'.format(name, label.replace('"', '""')) for name, label in rows]
        table = text(root / "t.csv", "\n".join(["path,label", "a.mp4,happy", *quoted]).encode("utf-8", "surrogatepass"))
        try:
            reading = read("csv", table)
        except DatasetError:
            return
        said: dict[str, set[str]] = {"a.mp4": {"Happy"}, "b.mp4": set()}
        for name, label in rows:
            meaning = MAFW_WORDS.resolve(label)
            said[name] |= set() if meaning is None else {meaning}
        assert {clip.clip_id: clip.label for clip in reading.clips} == {
            name: next(iter(labels)) for name, labels in said.items() if len(labels) == 1
        }


@given(st.text(max_size=40))
def test_any_text_as_au_codes(written: str) -> None:
    codes, _ = parse_au_codes(written)
    assert all(0 <= code.au <= 99 for code in codes)


SAMM_ROWS = [
    [f"{number:03d}", f"{number:03d}_1_1", "x", 1, 3, 5, 5, "Micro", "4+L10", emotion, 1, "a note"]
    for number, emotion in enumerate(("Anger", "Happiness", "Surprise", "Fear", "Other"), start=6)
]


@damage
@given(data=st.data())
def test_damaged_coding_sheets(data: st.DataObject) -> None:
    truth = {"samm/006/006_1_1": "Negative", "samm/007/007_1_1": "Positive", "samm/008/008_1_1": "Surprise"}
    truth["samm/009/009_1_1"] = "Negative"
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for row in SAMM_ROWS:
            frames(root / str(row[0]) / str(row[1]), [f"{n:05d}.jpg" for n in range(1, 6)])
        rows = [test_micro.SAMM_HEADER, *SAMM_ROWS]
        content = "About\n" + "\n".join(",".join(map(str, row)) for row in rows)
        path = text(root / "SAMM_Micro_FACS_Codes_v2.csv", content)
        path.write_bytes(data.draw(damaged(path.read_bytes())))
        table = text(root / "e.csv", "subject,ethnicity\n6,Asian\n7,Indian\n8,Caucasian\n")
        table.write_bytes(data.draw(damaged(table.read_bytes())))
        try:
            reading = read("samm", root, ethnicity=table)
        except DatasetError:
            return
        groups = {"006": "Asian", "007": "Asian", "008": "Non-Asian"}
        for clip in reading.clips:
            assert clip.label == truth[clip.clip_id]
            assert clip.culture in ("Unknown", groups.get(clip.clip_id.split("/")[1]))


@damage
@given(data=st.data())
def test_damaged_gccfer_tables(data: st.DataObject) -> None:
    truth = {"a": ("African", "Happy"), "b": ("South Asian", "Sad"), "c": ("Caucasian", "Fear")}
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for name in truth:
            frames(root / name, ["1.jpg"])
        rows = [f"{name},{culture},{label}" for name, (culture, label) in truth.items()]
        path = text(root / "t.csv", "\n".join(["path,culture,expression", *rows]))
        path.write_bytes(data.draw(damaged(path.read_bytes())))
        try:
            reading = read("gccfer", root)
        except DatasetError:
            return
        for clip in reading.clips:
            assert (clip.culture, clip.label) == truth[clip.clip_id.removeprefix("gccfer/")]


@damage
@given(content=st.binary(max_size=80) | st.text(max_size=80).map(lambda t: t.encode("utf-8", "surrogatepass")))
def test_any_bytes_as_json(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        try:
            found = _ethnicities(text(Path(folder) / "e.json", content), Report())
        except DatasetError:
            return
        assert all(clip.isdigit() and culture in CULTURES for clip, culture in found.items())
