"""Builders and functions that several test files share."""

import pytest

pytest.register_assert_rewrite('helpers.commands', 'helpers.configs', 'helpers.documents')
