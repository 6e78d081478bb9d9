"""Read the commands and examples of the documentation."""

from __future__ import annotations

import re
import shlex

from helpers.paths import ROOT


def read(document: str) -> str:
    """Return the text of a document by its path in the repository."""
    return (ROOT / document).read_text(encoding='utf-8')


def blocks(text: str, language: str) -> list[str]:
    """Return the code blocks of a language."""
    return re.findall(rf'```{language}\n(.*?)```', text, re.DOTALL)


def command_lines(text: str) -> list[str]:
    """Return the lines of the bash blocks."""
    lines = '\n'.join(blocks(text, 'bash')).splitlines()
    return [line for line in lines if line.strip()]


def documented(document: str, part: str) -> list[str]:
    """Return the words of the one command in ``document`` that has ``part`` in it."""
    lines = [line for line in command_lines(read(document)) if part in line]
    assert len(lines) == 1, lines
    return shlex.split(lines[0])
