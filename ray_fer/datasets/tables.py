"""Read lists and tables that people downloaded, edited and copied: CSV, words by line, Excel sheets.

Tolerated, because they change no meaning: a byte order mark, CRLF, blank lines, spaces around headers and cells, and
header case. Everything else that is wrong costs its row (reported with file and line) or, where no row can be trusted,
the file (`DatasetError`).
"""

from __future__ import annotations

import csv
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ray_fer.datasets.reading import DatasetError, Report

MAX_BYTES = 2 * 1024**3
MAX_SHEET_BYTES = 64 * 1024**2
MAX_SHEET_ROWS = 200_000
HEADER_SEARCH_ROWS = 60


@dataclass(frozen=True)
class Row:
    """One row of a table: its line (or sheet row) counted from 1, and its cells by lower-case header."""

    file: Path
    line: int
    cells: dict[str, str]

    def __getitem__(self, column: str) -> str:
        return self.cells[column]

    def get(self, column: str) -> str:
        """Cell, or "" where the table has no such column."""
        return self.cells.get(column, "")


def text_lines(path: Path, report: Report, encodings: Sequence[str] = ("utf-8",)) -> Iterator[tuple[int, str]]:
    """Non-blank lines with their numbers; a line that is no text in any of `encodings` is reported and skipped.

    Raises DatasetError for a file that is missing, too large, or UTF-16.
    """
    if not path.is_file():
        raise DatasetError(f"{path}: no such file")
    if path.stat().st_size > MAX_BYTES:
        raise DatasetError(f"{path}: larger than {MAX_BYTES} bytes; this is no list of clips")
    with path.open("rb") as file:
        for number, raw in enumerate(file, start=1):
            if number == 1:
                if raw.startswith((b"\xff\xfe", b"\xfe\xff")):
                    raise DatasetError(f"{path}: encoded as UTF-16; save it as UTF-8")
                raw = raw.removeprefix(b"\xef\xbb\xbf")
            text = _decoded(raw.rstrip(b"\r\n"), encodings)
            if text is None or "\0" in text or "\r" in text:
                report.problem(path, number, f"the line is not {' or '.join(encodings)} text")
            elif text.strip():
                yield number, text


def _decoded(raw: bytes, encodings: Sequence[str]) -> str | None:
    for encoding in encodings:
        try:
            return raw.decode(encoding)
        except UnicodeDecodeError:
            continue
    return None


def read_csv(path: Path, report: Report, required: Sequence[str]) -> list[Row]:
    """Rows of a comma-separated file with a header.

    Raises DatasetError when a required column is missing or a header occurs twice. Rows with another number of cells
    than the header are reported.
    """
    lines = text_lines(path, report)
    header: list[str] | None = None
    rows = []
    for number, text in lines:
        cells = _cells(text)
        if header is None:
            header = _header(path, cells or [], required)
        elif cells is None:
            report.problem(path, number, "a quote is opened and not closed, or text follows a closing quote")
        elif len(cells) != len(header):
            report.problem(path, number, f"{len(cells)} cells under {len(header)} headers")
        else:
            rows.append(Row(path, number, dict(zip(header, cells, strict=True))))
    if header is None:
        raise DatasetError(f"{path}: empty; expected a header with {', '.join(required)}")
    return rows


def read_words(
    path: Path,
    report: Report,
    columns: Sequence[str],
    separator: str | None = None,
    encodings: Sequence[str] = ("utf-8",),
) -> list[Row]:
    """Rows of a file without header: words separated by spaces (the first may hold spaces), or by `separator`.

    The first two words must be there; with a `separator` later ones may be empty.
    """
    rows = []
    for number, text in text_lines(path, report, encodings):
        words = text.strip().rsplit(None, len(columns) - 1) if separator is None else text.split(separator)
        words = [word.strip() for word in words]
        if len(words) == len(columns) and all(words[:2]):
            rows.append(Row(path, number, dict(zip(columns, words, strict=True))))
        else:
            report.problem(path, number, f"expected {len(columns)} words ({' '.join(columns)}), found {len(words)}")
    return rows


def read_sheet(path: Path, report: Report, required: Sequence[str]) -> list[Row]:
    """Rows of the first sheet of an .xlsx file (or of its .csv export), below the first row that holds all headers.

    SAMM's sheet has twelve rows of text before its header. Raises DatasetError when no row holds the headers.
    """
    if path.suffix.lower() == ".csv":
        return _below_header(path, _exported(path, report), required)
    import openpyxl

    if not path.is_file():
        raise DatasetError(f"{path}: no such file")
    if path.stat().st_size > MAX_SHEET_BYTES:
        raise DatasetError(f"{path}: larger than {MAX_SHEET_BYTES} bytes; this is no coding sheet")
    try:
        with zipfile.ZipFile(path) as archive:
            if sum(member.file_size for member in archive.infolist()) > 8 * MAX_SHEET_BYTES:
                raise DatasetError(f"{path}: unpacks to more than {8 * MAX_SHEET_BYTES} bytes; this is no coding sheet")
        book = openpyxl.load_workbook(path, read_only=True, data_only=True)
        try:
            rows = [
                (number, [_cell_text(value) for value in values])
                for number, values in enumerate(
                    book.worksheets[0].iter_rows(values_only=True, max_row=MAX_SHEET_ROWS), start=1
                )
            ]
        finally:
            book.close()
    except DatasetError:
        raise
    except Exception as error:  # openpyxl raises whatever a damaged archive makes it stumble over
        raise DatasetError(f"{path}: not a readable .xlsx sheet ({type(error).__name__}); save it again") from error
    return _below_header(path, rows, required)


def _exported(path: Path, report: Report) -> list[tuple[int, list[str]]]:
    """Rows of a sheet that was exported as CSV, whose quoted cells may hold line breaks."""
    lines = dict(text_lines(path, report))
    # Lines that are blank or no text are passed as blank, so that the reader's line numbers stay those of the file.
    reader = csv.reader((lines.get(number, "") + "\n" for number in range(1, max(lines, default=0) + 1)), strict=True)
    rows: list[tuple[int, list[str]]] = []
    while True:
        line = reader.line_num + 1
        try:
            cells = next(reader, None)
        except csv.Error as error:
            report.problem(path, line, f"not a row of CSV: {error}")
            continue
        if cells is None:
            return rows
        if cells:
            rows.append((line, cells))


def _below_header(path: Path, rows: list[tuple[int, list[str]]], required: Sequence[str]) -> list[Row]:
    wanted = {name.casefold() for name in required}
    headers = ([cell.strip().casefold() for cell in cells] for _, cells in rows[:HEADER_SEARCH_ROWS])
    position, names = next(((at, names) for at, names in enumerate(headers) if wanted <= set(names)), (0, []))
    if not names:
        raise DatasetError(f"{path}: no row holds the headers {', '.join(required)}")
    named = [name for name in names if name]
    repeated = {name for name in wanted if named.count(name) > 1}
    if repeated:
        raise DatasetError(f"{path}: header {sorted(repeated)[0]!r} occurs twice")
    found = []
    for number, cells in rows[position + 1 :]:
        padded = [cell.strip() for cell in cells] + [""] * (len(names) - len(cells))
        if any(padded):
            found.append(Row(path, number, {name: cell for name, cell in zip(names, padded, strict=False) if name}))
    return found


def _cell_text(value: Any) -> str:
    if value is None:
        return ""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _cells(text: str) -> list[str] | None:
    try:
        rows = list(csv.reader([text], strict=True))
    except csv.Error:
        return None
    return [cell.strip() for cell in rows[0]] if len(rows) == 1 else None


def _header(path: Path, cells: list[str], required: Sequence[str]) -> list[str]:
    names = [cell.casefold() for cell in cells]
    missing = [name for name in required if name.casefold() not in names]
    if missing:
        raise DatasetError(
            f"{path}: column {', '.join(missing)} is missing; the header has {', '.join(cells) or 'nothing'}"
        )
    repeated = {name for name in names if name and names.count(name) > 1}
    if repeated:
        raise DatasetError(f"{path}: column {sorted(repeated)[0]!r} occurs twice")
    return names
