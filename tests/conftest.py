"""Fixtures that every test module may ask for."""

from __future__ import annotations

from pathlib import Path

import pytest
from selfie import paths


@pytest.fixture(scope="session")
def mirror():
    """find(name): the path of a file of the local mirror (published figures, small weights); skips when absent."""

    def find(name: str) -> Path:
        path = paths.mirror(name)
        if path is None:
            pytest.skip(f"{name} is not here: set SELFIE_MIRROR to a folder that holds it")
        return path

    return find
