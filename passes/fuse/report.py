"""What the fuse pass did and what it left, with reasons."""

from fusec.ir.frozen import dataclass

__all__ = ["FuseReport", "Refusal"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """A consumer that stays a stage of its own."""

    consumer: tuple[int, ...]
    """Rows of the template's body."""
    producer: tuple[int, ...]
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FuseReport:
    """Counts, and refusals in stage order."""

    before: int
    """Stages."""
    after: int
    joined: int
    renamed: int
    """Copies that vanished because their source is their target now."""
    dead: int
    refused: tuple[Refusal, ...]

    def __str__(self) -> str:
        lines = [
            f"{self.before} stages became {self.after}: {self.joined} joined, "
            f"{self.renamed} copies renamed, {self.dead} dead"
        ]
        lines += [
            f"  rows {list(r.consumer)} stay apart from rows {list(r.producer)}: {r.reason}"
            for r in self.refused
        ]
        return "\n".join(lines)
