"""A node whose workers share one cache for all tests of a file: an environment takes a second to build."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support import Node

SETTLE_S = 0.3


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    path = tmp_path_factory.mktemp("cache")
    yield path
    for place, _, _ in os.walk(path):
        os.chmod(place, 0o700)


@pytest.fixture
def node(make_node: Callable[..., Node], cache: Path) -> Node:
    environ = {"SPOOLDADD_CACHE_DIR": str(cache), "SPOOLDADD_INTAKE__SETTLE": f"{SETTLE_S}s"}
    return make_node(environ=environ)
