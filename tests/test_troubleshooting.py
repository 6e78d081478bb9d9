"""Every line of docs/troubleshooting.md names a test that exists."""

import re

from conftest import ROOT

TEXT = (ROOT / 'docs' / 'troubleshooting.md').read_text(encoding='utf-8')


def test_every_line_is_shown_by_a_test():
    rows = [line for line in TEXT.splitlines() if re.match(r'\| (?!what |---)', line)]
    assert len(rows) >= 22
    for row in rows:
        tests = re.findall(r'`(\w+\.py)::(test_\w+)`', row.rpartition(' | ')[2] or row)
        assert tests, row
        for file, name in tests:
            source = (ROOT / 'tests' / file).read_text(encoding='utf-8')
            assert re.search(rf'^def {name}\(', source, re.MULTILINE), f'{file}::{name}'
