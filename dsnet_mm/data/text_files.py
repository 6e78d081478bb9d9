"""Read text files that come with a dataset, as editors and tools of any system write them."""

from __future__ import annotations

import codecs
import re
from pathlib import Path

from dsnet_mm.errors import UserError

_MARKS = {
    codecs.BOM_UTF32_LE: 'utf-32',  # before UTF-16, whose mark is the beginning of this one
    codecs.BOM_UTF32_BE: 'utf-32',
    codecs.BOM_UTF16_LE: 'utf-16',
    codecs.BOM_UTF16_BE: 'utf-16',
    codecs.BOM_UTF8: 'utf-8-sig',
}
_DECLARATION = re.compile(rb'\s*<\?xml[^>]*?encoding\s*=\s*["\']([\w.:-]+)["\']')


def read_text(path: Path) -> str:
    """Return the text of a file in UTF-8, or in UTF-16 or UTF-32 with a byte order mark.

    Raises:
        UserError: If the file is not readable, or is not text.
    """
    content = _read(path)
    return _decode(path, content, _encoding(content) or 'utf-8')


def read_xml(path: Path) -> str:
    """Return the text of an XML file, in the encoding that it declares, without its declaration.

    Raises:
        UserError: If the file is not readable, or is not text.
    """
    content = _read(path)
    encoding = _encoding(content)
    if not encoding:
        declared = _DECLARATION.match(content)
        encoding = declared[1].decode() if declared else 'utf-8'
        if re.match('utf-?(16|32)', encoding, re.IGNORECASE) and b'\0' not in content:
            encoding = 'utf-8'  # .NET declares the encoding of its strings, not that of the file
    return re.sub(r'^\s*<\?xml.*?\?>', '', _decode(path, content, encoding), flags=re.DOTALL)


def read_lines(path: Path) -> list[str]:
    """Return the lines of a file without empty lines and without spaces at both ends.

    Raises:
        UserError: If the file is not readable, or is not text.
    """
    return [line for line in map(str.strip, read_text(path).splitlines()) if line]


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(
            f'{path} cannot be read ({error.strerror}); check the file and its permissions'
        ) from error


def _encoding(content: bytes) -> str | None:
    """Return the encoding by the byte order mark, or None without a mark."""
    return next((name for mark, name in _MARKS.items() if content.startswith(mark)), None)


def _decode(path: Path, content: bytes, encoding: str) -> str:
    try:
        text = content.decode(encoding)
    except LookupError as error:
        raise UserError(
            f'{path} declares the unknown encoding {encoding}; save it as UTF-8'
        ) from error
    except UnicodeDecodeError as error:
        line = content.count(b'\n', 0, error.start) + 1
        raise UserError(
            f'{path} cannot be read as text in {encoding.upper()} (byte '
            f'0x{content[error.start]:02x} in line {line}), perhaps because it is in '
            'Latin-1 or another old encoding; save it as UTF-8'
        ) from error
    if '\0' in text:
        raise UserError(f'{path} cannot be read as text (it holds null bytes); save it as UTF-8')
    # marks remain inside where files were joined
    return text.replace('\ufeff', '')
