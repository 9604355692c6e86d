"""``fusec serve``: a plan file or a model repository behind the Open Inference Protocol.

Options are named as those of tritonserver, so that its containers' command lines work.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import fusec
from fusec.cli.output import say
from fusec.ir.errors import ConfigError
from fusec.server.control import Control

if TYPE_CHECKING:
    from fusec.plan import Plan
    from fusec.server.store import RuntimeLike

__all__ = ["serve_models"]

_Ignored = Annotated[list[str], typer.Option(hidden=True)]
"""Of tritonserver's command lines; there is nothing here that it could change."""


def serve_models(
    plan: Annotated[Path | None, typer.Argument(help="A plan file; or give a repository.")] = None,
    repository: Annotated[
        list[Path],
        typer.Option(
            "--model-repository", "--model-store", help="Folder of models in Triton's layout."
        ),
    ] = [],  # noqa: B006  # typer's way to say "may be given many times"
    control: Annotated[
        Control,
        typer.Option(
            "--model-control-mode", case_sensitive=False, help="Who decides what is loaded."
        ),
    ] = Control.NONE,
    load_model: Annotated[
        list[str], typer.Option(help="Load at the start under explicit control; * for all.")
    ] = [],  # noqa: B006
    poll_s: Annotated[float, typer.Option("--repository-poll-secs", min=0.1)] = 15.0,
    host: Annotated[
        str, typer.Option("--host", "--http-address", help="Address of all ports.")
    ] = "0.0.0.0",
    http_port: Annotated[int, typer.Option(min=0, max=65535)] = 8000,
    grpc_port: Annotated[int, typer.Option(min=0, max=65535)] = 8001,
    metrics_port: Annotated[int, typer.Option(min=0, max=65535)] = 8002,
    allow_http: Annotated[str, typer.Option(metavar="BOOL")] = "true",
    allow_grpc: Annotated[str, typer.Option(metavar="BOOL")] = "true",
    allow_metrics: Annotated[str, typer.Option(metavar="BOOL")] = "true",
    allow_page: Annotated[
        str, typer.Option(metavar="BOOL", help="Show models and lanes to people, at / of HTTP.")
    ] = "true",
    strict_readiness: Annotated[
        str, typer.Option(metavar="BOOL", help="Ready only if all models are.")
    ] = "true",
    exit_on_error: Annotated[
        str, typer.Option(metavar="BOOL", help="End if a model cannot be loaded at the start.")
    ] = "true",
    exit_timeout_s: Annotated[
        float, typer.Option("--exit-timeout-secs", min=0, help="For requests that run at the end.")
    ] = 30.0,
    exit_delay_s: Annotated[
        float,
        typer.Option(
            "--drain-seconds", "--exit-delay-secs", min=0, help="Not ready but serving, at the end."
        ),
    ] = 5.0,
    max_bytes: Annotated[
        int,
        typer.Option(
            "--max-request-bytes", "--http-max-input-size", min=1, help="Of a request's body."
        ),
    ] = 64 << 20,
    policy: Annotated[
        str, typer.Option(help="slack, fair, or another of `fusec simulate`.")
    ] = "slack",
    lanes: Annotated[int, typer.Option(min=1, help="Launches that run at once.")] = 1,
    threads: Annotated[int | None, typer.Option(min=1, help="All cores if absent.")] = None,
    queue: Annotated[
        int, typer.Option("--max-queue", "--queue", min=1, help="Requests that may wait.")
    ] = 10_000,
    tenant_header: Annotated[
        str | None, typer.Option(help="HTTP header, or gRPC metadata, that names the tenant.")
    ] = None,
    log: Annotated[Path | None, typer.Option(help="Decision log to write, for replay.")] = None,
    disable_auto_complete_config: Annotated[bool, typer.Option(hidden=True)] = False,
    log_verbose: _Ignored = [],  # noqa: B006
    log_info: _Ignored = [],  # noqa: B006
    log_warning: _Ignored = [],  # noqa: B006
    log_error: _Ignored = [],  # noqa: B006
    log_format: _Ignored = [],  # noqa: B006
    strict_model_config: _Ignored = [],  # noqa: B006
    backend_config: _Ignored = [],  # noqa: B006
    backend_directory: _Ignored = [],  # noqa: B006
    model_load_thread_count: _Ignored = [],  # noqa: B006
    pinned_memory_pool_byte_size: _Ignored = [],  # noqa: B006
    cuda_memory_pool_byte_size: _Ignored = [],  # noqa: B006
    rate_limit: _Ignored = [],  # noqa: B006
    cache_config: _Ignored = [],  # noqa: B006
    http_thread_count: _Ignored = [],  # noqa: B006
    grpc_infer_allocation_pool_size: _Ignored = [],  # noqa: B006
    buffer_manager_thread_count: _Ignored = [],  # noqa: B006
    allow_gpu_metrics: _Ignored = [],  # noqa: B006
    allow_cpu_metrics: _Ignored = [],  # noqa: B006
    metrics_interval_ms: _Ignored = [],  # noqa: B006
    server_id: Annotated[list[str], typer.Option("--id", hidden=True)] = [],  # noqa: B006
) -> None:
    """Serve models over REST and gRPC, as KServe's and Triton's clients speak them."""
    # Not at the top: what only this command needs would be part of every command's start.
    import asyncio

    from fusec.server.limits import Limits
    from fusec.server.running import Options, new_loop, serve
    from fusec.server.store import PlanStore

    ignored = {
        "--disable-auto-complete-config": disable_auto_complete_config,
        "--log-verbose": log_verbose,
        "--log-info": log_info,
        "--log-warning": log_warning,
        "--log-error": log_error,
        "--log-format": log_format,
        "--strict-model-config": strict_model_config,
        "--backend-config": backend_config,
        "--backend-directory": backend_directory,
        "--model-load-thread-count": model_load_thread_count,
        "--pinned-memory-pool-byte-size": pinned_memory_pool_byte_size,
        "--cuda-memory-pool-byte-size": cuda_memory_pool_byte_size,
        "--rate-limit": rate_limit,
        "--cache-config": cache_config,
        "--http-thread-count": http_thread_count,
        "--grpc-infer-allocation-pool-size": grpc_infer_allocation_pool_size,
        "--buffer-manager-thread-count": buffer_manager_thread_count,
        "--allow-gpu-metrics": allow_gpu_metrics,
        "--allow-cpu-metrics": allow_cpu_metrics,
        "--metrics-interval-ms": metrics_interval_ms,
        "--id": server_id,
    }
    for option in [name for name, value in ignored.items() if value]:
        say(f"note: {option} has no effect here", style="dim")
    if (plan is None) == (not repository):
        raise ConfigError("give either a plan file or --model-repository")
    loaded = (
        fusec.compile({}, threads=threads) if plan is None else fusec.load(plan, threads=threads)
    )

    def start(served: "Plan") -> "RuntimeLike":
        from fusec.serving import Runtime

        return Runtime(served, policy, lanes=lanes, queue_limit=queue, log=log)

    options = Options(
        repositories=repository,
        served=tuple(loaded.members),
        control=control,
        load=load_model,
        poll_s=poll_s,
        host=host,
        http_port=http_port if _true(allow_http, "--allow-http") else None,
        grpc_port=grpc_port if _true(allow_grpc, "--allow-grpc") else None,
        metrics_port=metrics_port if _true(allow_metrics, "--allow-metrics") else None,
        page=_true(allow_page, "--allow-page"),
        strict=_true(strict_readiness, "--strict-readiness"),
        exit_on_error=_true(exit_on_error, "--exit-on-error"),
        delay_s=exit_delay_s,
        exit_s=exit_timeout_s,
        limits=Limits(body_bytes=max_bytes),
        tenant_header=tenant_header,
    )
    with asyncio.Runner(loop_factory=new_loop()) as runner:
        runner.run(serve(options, PlanStore(loaded, start), say))


def _true(text: str, option: str) -> bool:
    """Read a boolean as tritonserver takes it."""
    if text.lower() in ("true", "1", "on"):
        return True
    if text.lower() in ("false", "0", "off"):
        return False
    raise ConfigError(f"{option} is {text!r}, wanted true or false")
