"""Makes the runner's own modules importable, from pytest as from the command line."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave the minutes-long cases to a run that asks for this folder by name."""
    asked = any("conformance" in str(arg) for arg in config.invocation_params.args)
    for item in items:
        if not asked and Path(__file__).parent in item.path.parents and "slow" in item.keywords:
            item.add_marker(pytest.mark.skip(reason="takes minutes: make conformance"))
