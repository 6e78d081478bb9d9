"""Find the lists of classes in a YOLO dataset, and refuse lists that disagree."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any

import yaml

from dsnet_mm.data.file_finder import files_below
from dsnet_mm.data.text_files import read_text
from dsnet_mm.errors import UserError, counted

NAME_FILES = (
    'classes.txt', 'class.txt', 'class_names.txt', 'names.txt', 'labels.txt', 'label_list.txt',
    'predefined_classes.txt',
)  # fmt: skip
"""Text files with one class per line, in lower case; those with a suffix of their own are extra."""

_WINDOWS_PATH = r'^(\s*(?:-|path\s*:|train\s*:|val\w*\s*:|test\s*:)\s*)"([^"\'\n]*\\[^"\'\n]*)"'
_NO_VALUE = ('', 'null', '~')


def find_class_lists(root: Path, remarks: list[str]) -> dict[Path, tuple[str, ...]]:
    """Return the classes in each file below ``root`` that lists classes.

    Args:
        root: The folder of the dataset.
        remarks: Receives sentences about lines that are ignored.

    Raises:
        UserError: If a file is not text, or lists a class twice.
    """
    lists = {}
    for path in files_below(root, ('.txt', '.names', '.labels')):
        if path.name.lower() in NAME_FILES or path.suffix.lower() in ('.names', '.labels'):
            if names := _read_names(path, remarks):
                lists[path] = _checked(path, names)
    return lists


def agreed_classes(
    lists: Mapping[Path, tuple[str, ...]], chosen: Sequence[str], remarks: list[str]
) -> tuple[str, ...]:
    """Return the classes on which all lists agree, or the chosen ones.

    Raises:
        UserError: If two lists disagree and no classes are chosen.
    """
    if chosen:
        others = [path for path, names in lists.items() if names != tuple(chosen)]
        if others:
            remarks.append(
                f'--classes replaces the classes in {" and ".join(map(str, others[:2]))}, which '
                'differ'
            )
        return tuple(chosen)
    if not lists:
        return ()
    first, names = next(iter(lists.items()))
    for path, other in lists.items():
        for place, (one, two) in enumerate(zip_longest(names, other)):
            if one != two:
                raise UserError(
                    f'{first} and {path} disagree about class {place} ({one or "none"} and '
                    f'{two or "none"}); remove the file that does not belong to the labels, or '
                    'pass --classes NAME ...'
                )
    return names


def read_yaml(file: Path) -> dict[str, Any]:
    """Read the YAML file of a dataset; all values remain text, such as the classes 'no' and '1'.

    Raises:
        UserError: If the file is not YAML, or contains no keys.
    """
    # a path of Windows in double quotes would hold escapes such as \t
    text = re.sub(_WINDOWS_PATH, r"\1'\2'", read_text(file).expandtabs(), flags=re.MULTILINE)
    try:
        content = yaml.load(text, yaml.BaseLoader)
    except yaml.YAMLError as error:
        reason = ' '.join(str(error).split())
        raise UserError(f'{file} is not valid YAML ({reason}); correct the file') from error
    if not isinstance(content, dict):
        raise UserError(f"{file} contains no keys; add at least 'names: [...]'")
    return {
        key: value
        for key, value in content.items()
        if not isinstance(value, str) or value.strip().lower() not in _NO_VALUE
    }


def yaml_classes(file: Path, settings: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the classes in the settings of a YAML file, none without 'names'.

    Raises:
        UserError: If the classes are not valid, or their number is not 'nc'.
    """
    names = settings.get('names')
    if names is None:
        return ()
    if isinstance(names, dict):
        numbers = [number.strip() for number in names]
        wanted = [str(number) for number in range(len(names))]
        by_number = dict(zip(numbers, names.values(), strict=True))
        names = [by_number[n] for n in wanted] if sorted(numbers) == sorted(wanted) else None
    if not isinstance(names, list) or not names or not all(isinstance(n, str) for n in names):
        raise UserError(
            f"'names' in {file} is not valid; write a list of classes, or a mapping of "
            'numbers from 0 to classes'
        )
    check_number(file, "'nc'", settings.get('nc'), names)
    return _checked(file, [name.strip() for name in names])


def check_number(file: Path, key: str, value: Any, names: Sequence[str]) -> None:
    """Check the number of classes in a file against the listed classes.

    Raises:
        UserError: If they differ.
    """
    if value is not None and str(value).strip() != str(len(names)):
        raise UserError(
            f'{key} in {file} is {value}, but {counted(len(names), "class", "classes")} are listed '
            f'({", ".join(names[:5])}{", ..." if len(names) > 5 else ""}); correct the list or the '
            'number'
        )


def _read_names(path: Path, remarks: list[str]) -> list[str]:
    """Return the classes in a file with one class per line; quotes around all names are removed."""
    lines = [line.strip() for line in read_text(path).strip().splitlines()]
    names = [line for line in lines if line and not line.startswith('#')]
    if comments := sum(line.startswith('#') for line in lines):
        remarks.append(f'ignored {counted(comments, "comment")} in {path}')
    if empty := lines.count('') if names else 0:
        remarks.append(
            f'ignored {counted(empty, "empty line")} between the classes in {path}, so check that '
            'the numbers of the labels fit'
        )
    for quote in '\'"':
        if names and all(len(n) > 2 and n[0] == quote == n.rstrip(',')[-1] for n in names):
            names = [name.rstrip(',')[1:-1].strip() for name in names]
    return names


def _checked(path: Path, names: Sequence[str]) -> tuple[str, ...]:
    for place, name in enumerate(names):
        if not name:
            raise UserError(f'class {place} in {path} has no name; add the name')
        if name in names[:place]:
            raise UserError(
                f'{path} lists the class {name!r} twice, as {names.index(name)} and {place}; '
                'rename one of them, or remove the line if no label has this number'
            )
    return tuple(names)
