"""Whether there is a place for files, and that they are written whole or not at all."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from dsnet_mm.errors import UserError
from dsnet_mm.files import check_empty, check_folder, check_free, written_whole


def write_half(path):
    with written_whole(path) as draft:
        draft.write_text('half')
        raise KeyboardInterrupt


def test_a_file_appears_whole_or_not_at_all(tmp_path):
    path = tmp_path / 'new' / 'x.txt'
    with written_whole(path) as draft:
        draft.write_text('whole')
        assert not path.exists()
    with pytest.raises(KeyboardInterrupt):
        write_half(path)
    assert path.read_text() == 'whole'
    assert list(path.parent.iterdir()) == [path]
    with pytest.raises(UserError, match='cannot be written; free some space'):
        write_half(path / 'below')


def test_places_are_looked_at_and_nothing_is_made(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path('file').touch()
    Path('link').symlink_to('nowhere')
    Path('folder').mkdir()
    for path in ('new', 'new/er', 'folder', 'folder/new', str(tmp_path / 'new')):
        check_folder(Path(path))
    for path in ('new.txt', 'folder/new.txt', 'new/new.txt', str(tmp_path / 'new.txt')):
        check_free(Path(path), force=False)
    faults = [
        ('file', 'file is not a folder; choose another folder'),
        ('file/new', 'file/new cannot be created: file is not a folder; choose another folder'),
        ('link/new', 'link/new cannot be created: link is not a folder; choose another folder'),
    ]
    for path, words in faults:
        with pytest.raises(UserError, match=re.escape(words)):
            check_folder(Path(path))
        with pytest.raises(UserError, match=re.escape(words)):
            check_free(Path(path) / 'new.txt', force=False)
    monkeypatch.setattr(os, 'access', lambda path, mode: False)
    with pytest.raises(
        UserError, match='^folder is not writable; change its permissions or choose'
    ):
        check_free(Path('folder/x'), force=False)
    assert sorted(os.listdir()) == ['file', 'folder', 'link']


def test_force_is_advised_where_it_helps(tmp_path):
    (tmp_path / 'file').touch()
    check_free(tmp_path / 'new', force=False)
    check_free(tmp_path / 'file', force=True)
    with pytest.raises(UserError, match='file already exists; choose another file or pass --force'):
        check_free(tmp_path / 'file', force=False)
    for force in (False, True):
        with pytest.raises(UserError, match='is a folder; choose a file$'):
            check_free(tmp_path, force)
    check_empty(tmp_path / 'new', '--out')
    check_empty(tmp_path, '--out', force=True)
    with pytest.raises(UserError, match='already holds files; .* as --out, or pass --force to'):
        check_empty(tmp_path, '--out', force=False)
    with pytest.raises(UserError, match='already holds files; pass another folder as --draw$'):
        check_empty(tmp_path, '--draw')
