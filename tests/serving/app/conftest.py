from __future__ import annotations

import pytest

from tests.serving.app.helpers import Harness


@pytest.fixture
def gateway() -> Harness:
    """The application in its plainest form: three models, no key needed."""
    return Harness()
