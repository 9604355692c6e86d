"""What the demo found, as plain data."""

from dataclasses import asdict, dataclass

__all__ = ["DemoReport", "GroupResult", "TenantResult", "Timing"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TenantResult:
    """One tenant: its task, and how plan and original answered every one of its test images."""

    name: str
    task: str
    architecture: str
    form: str
    """How the model was handed over: "module" or "onnx"."""
    images: int
    accuracy_plan: float
    accuracy_original: float
    same_labels: int
    """Test images on which plan and original give the same label."""
    largest_difference: float
    """Between the logits of plan and original."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupResult:
    """One group: what its members share and who they are."""

    template: str
    """Key of the template."""
    operators: tuple[str, ...]
    members: tuple[str, ...]
    weight_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """Microseconds per request when every tenant sends one image."""

    name: str
    p20_us: float
    p50_us: float
    p80_us: float
    rounds: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoReport:
    """The whole demo."""

    tenants: tuple[TenantResult, ...]
    groups: tuple[GroupResult, ...]
    refusals: tuple[str, ...]
    timings: tuple[Timing, ...]
    seconds: dict[str, float]
    """Seconds by phase: train, compile, build, save, load, check."""
    plan_bytes: int
    executor: str
    """That the plan runs on."""
    largest_difference_torch: float
    """Between PyTorch's executors and the originals, over one image per tenant."""

    @property
    def largest_difference(self) -> float:
        """The largest difference of any tenant."""
        return max(tenant.largest_difference for tenant in self.tenants)

    @property
    def agrees(self) -> bool:
        """Whether the plan labelled every test image as the original model did."""
        return all(tenant.same_labels == tenant.images for tenant in self.tenants)

    def to_json(self) -> dict[str, object]:
        """Return the report as what `json.dumps` takes."""
        return {
            **asdict(self),
            "largest_difference": self.largest_difference,
            "agrees": self.agrees,
        }
