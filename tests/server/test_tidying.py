"""Memory of models that are gone is given back, once for many."""

import asyncio
import gc
import weakref

from fusec.server.tidying import Tidying, give_back


class Cycle:
    """Holds itself."""

    def __init__(self) -> None:
        self.me = self


def test_what_only_cycles_hold_is_freed() -> None:
    gc.disable()
    try:
        ref = weakref.ref(Cycle())
        assert ref() is not None
        give_back()
        assert ref() is None
    finally:
        gc.enable()


def test_many_that_go_together_are_tidied_up_after_once() -> None:
    done: list[int] = []

    async def main() -> None:
        tidying = Tidying(lambda: done.append(1), 0.001)
        for wanted in (1, 2):
            for _ in range(50):
                tidying.soon()
            async with asyncio.timeout(10):
                while len(done) < wanted:
                    await asyncio.sleep(0.001)
        await asyncio.sleep(0.01)

    asyncio.run(main())
    assert len(done) == 2
