"""From kernels to one relocatable object: `emit(KERNELS)`.

A `cpu` module ends with

    KERNELS = (KernelSource(name="gemm_f32", function=gemm_f32), ...)

where a function is plain Python (or `numba.njit`; helpers it calls are `numba.njit`) of int64
parameters: the eight of `fusec.kernels.encoded` unless the source says otherwise. numba types it
and writes LLVM code; LLVM's own pipeline then optimises all of them together, once. The object has
the symbols `fusec_<name>` and needs nothing but what `ALLOWED` lists: a kernel that could raise,
allocate or print is refused.
"""

import ctypes
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import llvmlite.binding as llvm
from numba import types
from numba.core.codegen import AOTCodeLibrary, AOTCPUCodegen
from numba.core.compiler import Flags, compile_extra
from numba.core.compiler_lock import global_compiler_lock
from numba.core.errors import NumbaError
from numba.core.registry import cpu_target

from fusec.ir.errors import KernelError
from fusec.kernels.codegen.elf import Elf, symbol_of
from fusec.kernels.codegen.target import Processor, processor, target_machine

__all__ = ["ALLOWED", "KernelSource", "emit", "emit_module"]

ALLOWED = frozenset({
    "memcpy", "memset", "memmove", "syscall", "clock_gettime",
    # Where a processor lacks the instruction; all correctly rounded.
    "fma", "fmaf", "floor", "floorf", "ceil", "ceilf", "trunc", "truncf",
    "rint", "rintf", "roundeven", "roundevenf", "sqrt", "sqrtf",
})  # fmt: skip
"""Symbols that an object may need; the C library of the process has them."""

_RAISES = "fusec_kernel_raises"


@dataclass(frozen=True, slots=True)
class KernelSource:
    """One kernel: a name, unique in fusec, and a function of int64 parameters."""

    name: str
    function: Callable[..., Any]
    arguments: int = 8
    gives: bool = False
    """The function returns an int64."""


def emit(sources: Sequence[KernelSource], cpu: Processor | None = None) -> bytes:
    """Compile kernels to one relocatable object (ELF on Linux).

    Args:
        sources: kernels of one `cpu` module.
        cpu: what to compile for; this processor by default.

    Raises:
        KernelError: a kernel needs something that is not there at run time.

    Cost: about 0.3 s for a small kernel, most of it numba's typing.
    """
    return emit_module(sources, cpu).emit_object()


@dataclass(frozen=True, slots=True)
class Emitted:
    """Optimised LLVM code, before it becomes an object or an assembly listing."""

    module: Any
    machine: Any

    def emit_object(self) -> bytes:
        """Give the object file."""
        code: bytes = self.machine.emit_object(self.module)
        wrong = Elf(code).undefined() - ALLOWED
        if wrong:
            raise KernelError(self._why(wrong))
        return code

    def _why(self, symbols: frozenset[str]) -> str:
        if _RAISES in symbols:
            can_raise = [f.name for f in self.module.functions if f"@{_RAISES}(" in str(f)]
            names = ", ".join(name for name in can_raise if name != _RAISES)
            return (
                f"{names} can raise an exception: helpers need error_model='numpy', and arrays, "
                "assertions and ** are out of place"
            )
        return f"kernels need symbols that will not be there: {', '.join(sorted(symbols))}"

    def emit_assembly(self) -> str:
        """Give the listing, to look at what became of a kernel."""
        text: str = self.machine.emit_assembly(self.module)
        return text


def emit_module(sources: Sequence[KernelSource], cpu: Processor | None = None) -> Emitted:
    """Compile kernels and optimise them as one module; see `emit`."""
    machine = target_machine(cpu or processor())
    module = llvm.parse_assembly("")
    module.name = "fusec_kernels"
    with _numba_context() as context:
        for source in sources:
            text = _compiled(context, source)
            if not module.triple:
                module.triple, module.data_layout = text.triple, text.data_layout
            module.link_in(text)
    keep = {symbol_of(s.name) for s in sources}
    for function in module.functions:
        if not function.is_declaration and function.name not in keep:
            function.linkage = "internal"
    for variable in module.global_variables:
        if variable.linkage is llvm.Linkage.common:
            variable.linkage = "internal"
    _optimise(module, machine)
    return Emitted(module, machine)


class _Library(AOTCodeLibrary):
    """Code that numba does not optimise: that is done once, for all kernels together."""

    def _optimize_functions(self, ll_module: Any) -> None:
        ll_module.data_layout = self._codegen._data_layout

    def _optimize_final_module(self) -> None:
        pass

    def get_pointer_to_function(self, name: str) -> int:
        """Give what runs when Python calls a helper: a TypeError, since it has no machine code."""
        address = ctypes.cast(ctypes.pythonapi.PyErr_BadArgument, ctypes.c_void_p).value
        assert address is not None
        return address


class _Codegen(AOTCPUCodegen):
    _library_class = _Library

    def set_env(self, env_name: str, env: Any) -> None:
        """Have no environment: only code that meets Python objects reads it."""


@contextmanager
def _numba_context() -> Iterator[Any]:
    """Make numba compile through `_Codegen`, the helpers that kernels call included."""
    plain = cpu_target.target_context
    context = plain.subtarget(_internal_codegen=_Codegen("fusec_kernels"), aot_mode=True)
    with global_compiler_lock:
        # What a dispatcher compiles with is a cached property of the one CPU target.
        cpu_target.__dict__["_toplevel_target_context"] = context
        try:
            yield context
        finally:
            cpu_target.__dict__["_toplevel_target_context"] = plain


def _compiled(context: Any, source: KernelSource) -> Any:
    """Give the module of one kernel with its C entry point, not optimised."""
    flags = Flags()
    flags.no_compile = flags.no_cpython_wrapper = flags.no_cfunc_wrapper = True
    flags.error_model = "numpy"
    flags.nrt = False
    flags.enable_pyobject = flags.force_pyobject = False
    function = getattr(source.function, "py_func", source.function)
    library = context.codegen().create_library(source.name)
    arguments = [types.int64] * source.arguments
    result = types.int64 if source.gives else types.void
    try:
        compiled = compile_extra(
            cpu_target.typing_context, context, function, arguments, result, flags,
            locals={}, library=library,
        )  # fmt: skip
    except NumbaError as error:
        raise KernelError(f"kernel {source.name!r} does not compile: {error}") from error
    library.add_llvm_module(llvm.parse_assembly(_entry(source, compiled.fndesc.llvm_func_name)))
    library.finalize()
    return library._final_module


def _entry(source: KernelSource, inner: str) -> str:
    """Write the C function around numba's: `int32 inner(result*, exception*, arguments...)`."""
    given = ", ".join(f"i64 %a{i}" for i in range(source.arguments))
    kind = "i64" if source.gives else "void"
    slot = "i64" if source.gives else "ptr"
    passed = "".join(f", i64 %a{i}" for i in range(source.arguments))
    taken = "".join(", i64" for _ in range(source.arguments))
    end = f"%value = load {slot}, ptr %slot\n  ret i64 %value" if source.gives else "ret void"
    return f"""
declare i32 @{inner}(ptr, ptr{taken})
declare void @{_RAISES}()
define {kind} @{symbol_of(source.name)}({given}) {{
  %slot = alloca {slot}
  %error = alloca ptr
  %status = call i32 @{inner}(ptr %slot, ptr %error{passed})
  %fine = icmp eq i32 %status, 0
  br i1 %fine, label %done, label %raised
raised:
  call void @{_RAISES}()
  br label %done
done:
  {end}
}}
"""


def _optimise(module: Any, machine: Any) -> None:
    module.verify()
    options = llvm.create_pipeline_tuning_options(speed_level=3)
    options.loop_vectorization = options.slp_vectorization = False
    # Kernels spell their vectors; helpers are small pieces that must end up inside.
    options.inlining_threshold = 2_000
    builder = llvm.create_pass_builder(machine, options)
    builder.getModulePassManager().run(module, builder)
