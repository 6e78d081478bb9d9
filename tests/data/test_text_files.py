"""Test that text files of any editor are read, and that other files are refused in one sentence."""

from __future__ import annotations

import codecs

import pytest

from dsnet_mm.data.text_files import read_lines, read_text, read_xml
from dsnet_mm.errors import UserError

XML = '<?xml version="1.0" encoding="{}"?>\n<annotation>Köln</annotation>'
ENCODINGS = {
    'UTF-8': 'utf-8',
    'UTF-8 with a mark': 'utf-8-sig',
    'UTF-16': 'utf-16',
    'UTF-32': 'utf-32',
}


@pytest.mark.parametrize('encoding', ENCODINGS.values(), ids=ENCODINGS)
@pytest.mark.parametrize('end', ['\n', '\r\n', '\r', '\r\r\n'])
def test_lines_of_any_editor(tmp_path, encoding, end):
    path = tmp_path / 'classes.txt'
    path.write_bytes(end.join(['Köln', '', ' two words \t', '']).encode(encoding))
    assert read_lines(path) == ['Köln', 'two words']


def test_big_endian_and_joined_files(tmp_path):
    path = tmp_path / 'classes.txt'
    path.write_bytes(codecs.BOM_UTF16_BE + 'ä\nb'.encode('utf-16-be'))
    assert read_lines(path) == ['ä', 'b']
    path.write_bytes('a\n'.encode('utf-8-sig') + 'b'.encode('utf-8-sig'))
    assert read_lines(path) == ['a', 'b']


@pytest.mark.parametrize(
    ('content', 'words'),
    [
        (
            'a\nKöln'.encode('latin-1'),
            'UTF-8 (byte 0xf6 in line 2), perhaps because it is in Latin',
        ),
        ('a'.encode('utf-16-le'), 'it holds null bytes'),
    ],
)
def test_other_encodings_are_refused(tmp_path, content, words):
    path = tmp_path / 'classes.txt'
    path.write_bytes(content)
    with pytest.raises(UserError) as error:
        read_text(path)
    assert str(error.value).startswith(f'{path} cannot be read as text')
    assert words in str(error.value)
    assert str(error.value).endswith('; save it as UTF-8')


@pytest.mark.parametrize(
    ('declared', 'encoding'),
    [
        ('UTF-8', 'utf-8'),
        ('ISO-8859-1', 'latin-1'),
        ('windows-1252', 'cp1252'),
        ('GBK', 'gbk'),
        ('UTF-16', 'utf-16'),
        ('utf-16', 'utf-8'),  # as programs in C# write it
        ('utf-8', 'utf-8-sig'),
    ],
)
def test_xml_in_the_declared_encoding(tmp_path, declared, encoding):
    path = tmp_path / 'a.xml'
    name = '猫' if encoding == 'gbk' else 'Köln'
    path.write_bytes(XML.replace('Köln', name).format(declared).encode(encoding))
    assert read_xml(path).strip() == f'<annotation>{name}</annotation>'


def test_xml_without_a_known_encoding(tmp_path):
    path = tmp_path / 'a.xml'
    path.write_bytes(XML.format('klingon').encode())
    with pytest.raises(UserError, match='declares the unknown encoding klingon; save it as UTF-8'):
        read_xml(path)
    path.write_bytes('<annotation>Köln</annotation>'.encode('latin-1'))
    with pytest.raises(UserError, match='byte 0xf6 in line 1'):
        read_xml(path)
