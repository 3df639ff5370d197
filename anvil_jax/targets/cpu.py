"""Prints a program as C++17 for a CPU: one `evaluate` function."""

from anvil_jax.emit.views import FunctionView
from anvil_jax.kernels.buffers import ALIGNMENT
from anvil_jax.kernels.program import For, Forever, Program
from anvil_jax.kernels.schedule import schedule, walk
from anvil_jax.targets.layout import Layout
from anvil_jax.targets.printer import Dialect, Printer, Text
from anvil_jax.targets.signature import SignatureNames, buffer_views
from anvil_jax.targets.statistics import count_operations

CPU = Dialect(
    part="__attribute__((noinline)) void",
    suffix=" noexcept",
    shared="",
    private="",
    restrict=" __restrict__",
    byte="unsigned char",
)


def render(program: Program, name: str, signature: SignatureNames) -> FunctionView:
    """The C++ text of a program (which loses its dead statements on the way)."""
    plan = schedule(program)
    layout = Layout(program, plan)
    printer = Printer(program, layout, CPU)
    text = Text()
    printer.block(program.root, text, layout.entry, "  ")
    parameters = ", ".join(declared for declared, _ in printer.parameters(text, whole=True))
    entry = [f"void {layout.entry.name}({parameters}) noexcept {{", *printer.body(text), "}", ""]
    functions = [*printer.functions, "\n".join(entry)]
    code = "\n".join(functions)
    used = [b for b in program.constants if printer.buffer_names[b] in code]
    loops = sum(isinstance(s, For | Forever) for _, s in walk(program.root))
    return FunctionView(
        name=name,
        source=signature.source,
        inputs=buffer_views(signature.inputs, program.inputs),
        outputs=buffer_views(signature.outputs, program.outputs),
        code=code,
        tables=tuple(printer.tables[b] for b in used),
        runtime=tuple(sorted(printer.runtime)),
        workspace_nbytes=-(-layout.workspace_nbytes // ALIGNMENT) * ALIGNMENT,
        operations=count_operations(program, plan),
        notes=(f"C++ functions: {len(functions)}. Loops: {loops}.",),
    )
