"""The lists of videos that the authors of data sets publish, each in its own form.

Kinetics             label,youtube_id,time_start,time_end,split: files are named
                     id_000010_000020.mp4; many are gone, which is said
UCF101               trainlist01.txt: "Class/v_x.avi 1", testlist01.txt without the
                     label; classInd.txt: "1 Class"
HMDB51               Class_test_split1.txt: "x.avi 0" (unused), 1 (train), 2 (test)
Something-Something  json: [{"id": "1", "template": "Holding [something]"}], and
                     labels.json: {"Holding something": "0"}
Jester               jester-v1-train.csv: "1;Swiping Left", of a folder of pictures,
                     and jester-v1-labels.csv: a class a line
others in json       {"a.mp4": 3}
"""

import csv
import json
import pathlib
import re
import warnings

from jaxflow.data import list_rows
from jaxflow.io import files
from jaxflow.io import video as video_files


def read(path: pathlib.Path, base: pathlib.Path, part, given: bool):
    """Reads a list, if it is of one of the forms above.

    Args:
        path: The list.
        base: Folder that its paths are relative to.
        part: "train", "val" or "test", for a list that holds several.
        given: Whether the caller has chosen `base`.

    Returns:
        Its rows, with paths that can be opened, and the vocabulary if the list comes
        with one; None and None if the list is of no such form.

    Raises:
        ValueError: If a line is not of the form.
        OSError: If the list cannot be opened.
    """
    if found := re.fullmatch(r"(.+)_test_split([123])\.txt", path.name):
        return _hmdb51(path, base, part, given, found[2]), None
    if files.suffix(path) == ".json":
        return _json(path, base)
    lines = list_rows.read_lines(path)
    if re.fullmatch(r"jester-v1-(train|validation)\.csv", path.name):
        return _jester(path, base, given, lines)
    if lines and {"youtube_id", "time_start"} <= set(_split(lines[0][1])):
        return _kinetics(path, base, lines, part), None
    index = path.parent / "classInd.txt"
    if index.is_file() and re.fullmatch(r"(train|test)list\d+\.txt", path.name):
        names = _class_index(index)
        return _ucf101(path, base, given, lines, names), names
    return None, None


def _row(line: int, path, label: str) -> list_rows.Row:
    return list_rows.Row(line, str(path), label)


def _split(line: str) -> list[str]:
    """Splits a line of a csv file."""
    return [cell.strip() for cell in next(csv.reader([line], skipinitialspace=True))]


def _kinetics(path, base, lines, part) -> list:
    """Reads Kinetics' csv, and finds the files."""
    columns = _split(lines[0][1])
    if "label" not in columns:
        raise list_rows.fault(
            path, 1, "has no column 'label': the labels are not published"
        )
    present = {file.stem: file for file in list_rows.find_videos(base)}
    rows, parts, missing = [], [], []
    for number, line in lines[1:]:
        cells = dict(zip(columns, _split(line), strict=False))
        if len(_split(line)) != len(columns):
            raise list_rows.fault(
                path, number, f"has not {len(columns)} columns: {line!r}"
            )
        try:
            start, stop = (round(float(cells[f"time_{x}"])) for x in ("start", "end"))
        except (ValueError, KeyError, OverflowError):
            raise list_rows.fault(
                path, number, f"has no start and end: {line!r}"
            ) from None
        name = f"{cells['youtube_id']}_{start:06d}_{stop:06d}"
        rows.append(_row(number, present.get(name, base / name), cells["label"]))
        parts.append(cells.get("split", ""))
        if name not in present:
            missing.append(name)
    kept = list_rows.only(path, rows, parts, part)
    gone = set(missing)
    there = [row for row in kept if pathlib.Path(row.path).name not in gone]
    if len(there) < len(kept):
        lost = len(kept) - len(there)
        first = next(row for row in kept if pathlib.Path(row.path).name in gone)
        what = f"{lost} of {len(kept)} videos are not in {base}: {first.path}.mp4 ..."
        if not there:
            raise files.fault(path, what)
        warnings.warn(f"{path}: {what}", stacklevel=2)
    return there


def _class_index(path: pathlib.Path) -> tuple[str, ...]:
    """Reads UCF101's classInd.txt."""
    names = []
    for number, line in list_rows.read_lines(path):
        found = re.fullmatch(r"(\d+)\s+(\S+)", line)
        if found is None or int(found[1]) != len(names) + 1:
            raise list_rows.fault(
                path, number, f"is not '{len(names) + 1} Class': {line!r}"
            )
        names.append(found[2])
    return tuple(names)


def _ucf101(path, base, given, lines, names) -> list:
    """Reads a list of UCF101; the class of a video is that of its folder."""
    rows = []
    for number, line in lines:
        found = re.fullmatch(r"(([^/]+)/\S+\.\w+)(?:\s+(\d+))?", line)
        if found is None:
            raise list_rows.fault(path, number, f"is not 'Class/v_x.avi 1': {line!r}")
        if found[2] not in names:
            raise list_rows.fault(
                path, number, f"names {found[2]!r}, no class of classInd.txt"
            )
        right = names.index(found[2]) + 1
        if found[3] is not None and int(found[3]) != right:
            raise list_rows.fault(
                path, number, f"has the label {found[3]}; {found[2]} has {right}"
            )
        rows.append((number, found[1], found[2]))
    bases = [base, base / "UCF-101", base.parent / "UCF-101"]
    there = [
        folder
        for folder in ([] if given else bases)
        if any((folder / file).is_file() for _, file, _ in rows)
    ] or [base]
    return [_row(number, there[0] / file, name) for number, file, name in rows]


def _hmdb51(path, base, part, given, split: str) -> list:
    """Reads the lists of all classes that lie beside one of them."""
    marks = {"train": "1", "test": "2"}
    if part not in marks:
        raise files.fault(
            path,
            "is a list of HMDB51, in which 1 marks training and 2 testing: `part` must "
            f"be 'train' or 'test', and is {part!r}",
        )
    rows = []
    for file in sorted(path.parent.glob(f"*_test_split{split}.txt")):
        if file.name.startswith("."):
            continue
        name = file.name.removesuffix(f"_test_split{split}.txt")
        for number, line in list_rows.read_lines(file):
            found = re.fullmatch(r"(.+\.\w+)\s+([012])", line)
            if found is None:
                raise list_rows.fault(
                    file, number, f"is not 'x.avi' and 0, 1 or 2: {line!r}"
                )
            if found[2] == marks[part]:
                rows.append((number, name, found[1]))
    bases = [base] if given else [base, base.parent, base.parent / "hmdb51_org"]
    places = [(folder, middle) for folder in bases for middle in (True, False)]
    place = next(
        (
            (folder, middle)
            for folder, middle in places
            if any(
                (folder / (name if middle else "") / file).is_file()
                for _, name, file in rows
            )
        ),
        (base, True),
    )
    return [
        _row(0, place[0] / (name if place[1] else "") / file, name)
        for _, name, file in rows
    ]


def _jester(path, base, given, lines):
    """Reads a list of Jester, and the order of its classes if that is beside it."""
    inner = base / "20bn-jester-v1"
    place = inner if inner.is_dir() and not given else base
    rows = []
    for number, line in lines:
        name, semicolon, label = (part.strip() for part in line.partition(";"))
        if not (name.isdecimal() and semicolon and label):
            raise list_rows.fault(path, number, f"is not '1;Swiping Left': {line!r}")
        rows.append(_row(number, place / name, label))
    order = path.with_name("jester-v1-labels.csv")
    if not order.is_file():
        return rows, None
    return rows, tuple(line for _, line in list_rows.read_lines(order))


def _json(path: pathlib.Path, base: pathlib.Path):
    """Reads Something-Something's lists, or a table from files to labels."""
    try:
        data = json.loads(path.read_bytes().decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise files.fault(path, f"is no readable json: {error}") from None
    if isinstance(data, dict):
        wrong = [k for k, v in data.items() if not isinstance(v, (str, int))]
        if wrong or any(isinstance(value, bool) for value in data.values()):
            raise files.fault(path, f"gives no label to {(wrong or list(data))[0]!r}")
        return [_row(0, base / name, str(label)) for name, label in data.items()], None
    rows = []
    for item in data if isinstance(data, list) else [None]:
        if not isinstance(item, dict) or not {"id", "template"} <= set(item):
            raise files.fault(
                path, f'an entry has no "id" and "template": {str(item)[:80]!r}'
            )
        name = re.sub(r"[\[\]]", "", str(item["template"]))
        rows.append(_row(0, _something(base, str(item["id"])), name))
    return rows, _something_names(path)


def _something(base: pathlib.Path, name: str) -> pathlib.Path:
    """Returns the file of a video of Something-Something."""
    folders = (base, base / "20bn-something-something-v2")
    found = [
        folder / f"{name}{suffix}"
        for folder in folders
        for suffix in (".webm", *video_files.READABLE)
    ]
    return next((file for file in found if file.is_file()), found[0])


def _something_names(path: pathlib.Path) -> tuple[str, ...] | None:
    """Reads the numbers of the classes beside a list of Something-Something."""
    for name in ("labels.json", "something-something-v2-labels.json"):
        file = path.parent / name
        if file.is_file():
            try:
                table = json.loads(file.read_bytes().decode("utf-8-sig"))
                order = {int(number): label for label, number in table.items()}
                return tuple(order[number] for number in range(len(table)))
            except (ValueError, TypeError, AttributeError, KeyError) as error:
                raise files.fault(file, f"numbers no classes: {error!r}") from None
    return None
