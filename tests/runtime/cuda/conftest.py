"""A card of a test's, called directly and through C."""

from collections.abc import Iterator

import pytest
from fusec_testing.called_cuda import CalledLibrary
from fusec_testing.fake_cuda import FakeLibrary

from fusec.runtime.cuda.context import Context, open_context
from fusec.runtime.cuda.library import Driver


@pytest.fixture
def fake() -> FakeLibrary:
    return FakeLibrary()


@pytest.fixture(params=["called directly", "called through C"])
def context(fake: FakeLibrary, request: pytest.FixtureRequest) -> Iterator[Context]:
    through_c = request.param == "called through C"
    yield open_context(Driver(CalledLibrary(fake) if through_c else fake))
    assert fake.faults == []
