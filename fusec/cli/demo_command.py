"""``fusec demo``: small real classifiers of many tenants, compiled into one plan and checked."""

from collections import Counter
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from fusec.cli.output import JsonFlag, emit_json, progress
from fusec.demo.report import DemoReport

__all__ = ["demo"]

WIDTH = 120
PHASES = {
    "train": "training the models",
    "compile": "compiling them into one plan",
    "build": "building native code",
    "save": "saving the plan",
    "load": "loading it again",
    "check": "running every test image",
    "time": "timing requests",
}


def demo(
    tenants: Annotated[int, typer.Option(min=1, max=200, help="How many models.")] = 24,
    epochs: Annotated[int, typer.Option(min=1, help="Training passes per model.")] = 25,
    seed: Annotated[int, typer.Option(help="Of tasks, weights and batches.")] = 7,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Folder to keep demo.fusec in.", file_okay=False),
    ] = None,
    json: JsonFlag = False,
) -> None:
    """Train small digit classifiers, compile them into one plan, compare with the originals.

    Exits with 1 if the plan labels any test image differently from the original model.
    """
    # Training needs PyTorch and scikit-learn, which `fusec --help` must not wait for.
    from fusec.demo.run import run_demo

    if output is not None:
        output.mkdir(parents=True, exist_ok=True)
    starts = {"train": 0, "compile": tenants, "build": tenants + 1, "save": tenants + 2}
    starts |= {"load": tenants + 3, "check": tenants + 4, "time": 2 * tenants + 4}
    with progress(2 * tenants + 5) as tell:
        report = run_demo(
            tenants=tenants,
            epochs=epochs,
            seed=seed,
            folder=output,
            progress=lambda phase, done, total: tell(PHASES[phase], starts[phase] + done),
        )
    if json:
        emit_json(report.to_json())
    else:
        console = Console()
        # The tables need some width, which a file or a pipe has.
        show(report, console if console.is_terminal else Console(width=WIDTH))
    if not report.agrees:
        raise typer.Exit(1)


def show(report: DemoReport, console: Console) -> None:
    """Print a report as tables.

    Args:
        report: what `run_demo` returned.
        console: where to print.
    """
    console.print(_groups(report))
    for refusal in report.refusals:
        console.print(f"apart because of {refusal}", style="dim", highlight=False)
    console.print(_tenants(report))
    console.print(_timings(report))
    images = sum(tenant.images for tenant in report.tenants)
    same = sum(tenant.same_labels for tenant in report.tenants)
    spent = ", ".join(f"{phase} {seconds:.1f} s" for phase, seconds in report.seconds.items())
    console.print(
        f"{len(report.tenants)} models, one plan of {report.plan_bytes / 1e6:.2f} MB: "
        f"{same} of {images} test images labelled as by the original models.\n"
        f"Largest difference of a logit: {report.largest_difference:.1e} ({report.executor}), "
        f"{report.largest_difference_torch:.1e} through PyTorch.\n"
        f"Took: {spent}.",
        highlight=False,
    )


def _groups(report: DemoReport) -> Table:
    table = Table(title="Groups", title_justify="left")
    for column in ("group", "models", "handed over as", "weights", "operators"):
        table.add_column(column, justify="right" if column in ("models", "weights") else "left")
    forms = {tenant.name: tenant.form for tenant in report.tenants}
    for group in report.groups:
        kinds = Counter(forms[name] for name in group.members)
        table.add_row(
            group.template[:12],
            str(len(group.members)),
            ", ".join(f"{count} {form}" for form, count in sorted(kinds.items())),
            f"{group.weight_bytes / 1e3:.0f} kB",
            " ".join(group.operators),
        )
    return table


def _tenants(report: DemoReport) -> Table:
    table = Table(title="Tenants", title_justify="left")
    left = ("tenant", "task", "model", "from")
    for column in (*left, "images", "accuracy, plan", "original", "largest difference"):
        table.add_column(column, justify="left" if column in left else "right")
    for tenant in report.tenants:
        table.add_row(
            tenant.name,
            tenant.task,
            tenant.architecture,
            tenant.form,
            str(tenant.images),
            f"{tenant.accuracy_plan:.2%}",
            f"{tenant.accuracy_original:.2%}",
            f"{tenant.largest_difference:.1e}",
        )
    return table


def _timings(report: DemoReport) -> Table:
    title = "Time per request, one image from every tenant, one thread"
    table = Table(title=title, title_justify="left")
    table.add_column("way")
    for column in ("median", "20 %", "80 %"):
        table.add_column(column, justify="right")
    for timing in report.timings:
        times = (timing.p50_us, timing.p20_us, timing.p80_us)
        table.add_row(timing.name, *(f"{microseconds:.0f} us" for microseconds in times))
    return table
