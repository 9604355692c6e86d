"""What runs on a lane under the virtual clock: when its blocks end, and where it can stop."""

from dataclasses import dataclass

from fusec.runtime.sched.records import Launch, Pack
from fusec.runtime.sched.view import Lane

__all__ = ["Running"]


@dataclass(slots=True)
class Running:
    """One launch in progress. Blocks cannot be left, except by a retreat."""

    launch: Launch
    start_ns: int
    ends_ns: tuple[int, ...]
    """Of each block; the first may be the rest of a block that retreated."""
    before_ns: int
    """Work of the first block that earlier launches did."""
    overhead_ns: int
    """What going on after an interruption cost, at the start of the first block."""
    expected_ns: tuple[int, ...]
    """Of each block, by the profile: what a policy may know of its end."""
    stop_ns: int
    """When it will leave the lane: at its end, unless it was told to stop."""
    due_ns: tuple[int, ...]
    """Of each request."""
    version: int = 0
    """Counts changes of `stop_ns`, so that an older event is known to be void."""

    def block_at(self, now_ns: int) -> int:
        """Give the position, in this launch, of the block that runs."""
        return next(
            (i for i, end in enumerate(self.ends_ns) if end > now_ns), len(self.ends_ns) - 1
        )

    def shown(self, lane: int, now_ns: int, retreat_ns: int | None) -> Lane:
        """Give what a policy sees of it."""
        position = self.block_at(now_ns)
        pack = self.launch.pack
        here = Pack(pack.template, pack.requests, pack.next_block + position, pack.beside)
        stopping = self.stop_ns < self.ends_ns[-1]
        block_end = max(now_ns, self.expected_ns[position])
        end = block_end if stopping else max(now_ns, self.expected_ns[-1])
        return Lane(lane, here, block_end, end, self.due_ns, stopping, retreat_ns)

    def stop_soon(self, now_ns: int, retreat_ns: int | None) -> None:
        """Leave at the next place where that is possible."""
        position = self.block_at(now_ns)
        stop = self.ends_ns[position]
        if retreat_ns is not None and not self.launch.pack.beside:
            begin = self.ends_ns[position - 1] if position else self.start_ns + self.overhead_ns
            steps = max(1, -(-(now_ns - begin) // retreat_ns))
            stop = min(stop, begin + steps * retreat_ns)
        if stop < self.stop_ns:
            self.stop_ns = stop
            self.version += 1

    def left_at(self) -> tuple[int, int]:
        """Give how many blocks are done when it leaves, and the work done in the next one."""
        done = sum(1 for end in self.ends_ns if end <= self.stop_ns)
        if done == len(self.ends_ns):
            return done, 0
        begin = self.ends_ns[done - 1] if done else self.start_ns + self.overhead_ns
        into = max(0, self.stop_ns - begin)
        return done, into + (self.before_ns if done == 0 else 0)
