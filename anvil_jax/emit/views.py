"""What the templates see: frozen records in which every decision has been taken.

A `FunctionView` is one generated function. Its `code` holds complete definitions of internal
functions; the entry point among them is always

    void evaluate(const T* in0, ..., U* out0, ..., unsigned char* ws) noexcept

with one pointer per input, one per output (C order), and the workspace (64-byte aligned,
`workspace_nbytes` long, may be null when that is 0). Every interface (C++ `call`, the JIT shim, the
C ABI) only forwards to it.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class BufferView:
    """One argument or result.

    Attributes:
        name: C++ identifier, e.g. ``params_w1``.
        ctype: C++ element type, e.g. ``double``, ``std::int32_t``.
        dtype: NumPy name of the element type, e.g. ``float64``.
        shape: static shape, ``()`` for a scalar.
    """

    name: str
    ctype: str
    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class TableView:
    """A captured constant, emitted once per module: ``alignas(64) constexpr ctype name[size]``.

    The name is derived from the contents, so equal tables of several functions are one table.
    `rows` are comma-separated literals, one source line each.
    """

    name: str
    ctype: str
    size: int
    rows: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SparsityView:
    """Compressed sparse columns, declared in the header beside the function.

    Attributes:
        rows, cols, nnz: of the matrix.
        inner: ``innerIndices``, the row of each value.
        outer: ``outerStarts``, where each column starts, and nnz at the end.
    """

    rows: int
    cols: int
    nnz: int
    inner: TableView
    outer: TableView


@dataclass(frozen=True, slots=True)
class FunctionView:
    """One generated function, ready to be put into a module.

    Attributes:
        name: C++ identifier, also the namespace of the function inside its module.
        source: what the function was in Python, e.g. ``quadrotor.step`` (no path: text must be
            equal on all machines).
        inputs, outputs: in call order.
        code: definitions of the internal functions, the last of which is ``evaluate``.
        tables: constants that `code` refers to by name.
        runtime: file names under templates/runtime that `code` needs, e.g. ``("math.hpp",)``.
        workspace_nbytes: size of the workspace, a multiple of 64.
        operations: arithmetic operations of one call (loops counted with their trips where known).
        notes: further lines of the header comment.
        sparsity: of the matrix whose nonzero values the first output holds, or None.
    """

    name: str
    source: str
    inputs: tuple[BufferView, ...]
    outputs: tuple[BufferView, ...]
    code: str
    tables: tuple[TableView, ...]
    runtime: tuple[str, ...]
    workspace_nbytes: int
    operations: int
    notes: tuple[str, ...] = ()
    sparsity: SparsityView | None = None


@dataclass(frozen=True, slots=True)
class LaunchView:
    """One launch of a kernel.

    Attributes:
        kernel: name of the function.
        arguments: what it takes, by name: ``in0``, ``out1``, ``ws``.
        groups: number of groups of threads.
        threads: of each group.
        repeats: counters and trips of the host's loops around it, outermost first; the counters
            are among the arguments where they are used.
        loops: which loops these are: neighbours with the same ones are in one loop.
    """

    kernel: str
    arguments: tuple[str, ...]
    groups: int
    threads: int
    repeats: tuple[tuple[str, int], ...] = ()
    loops: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class DeviceFunctionView(FunctionView):
    """One generated function for a graphics processor.

    `code` holds kernels and the functions they call; all memory is the device's.

    Attributes:
        device: ``CUDA`` or ``METAL``.
        launches: in the order in which they run, each after the one before has ended.
    """

    device: str = "CUDA"
    launches: tuple[LaunchView, ...] = ()


@dataclass(frozen=True, slots=True)
class ConstantView:
    """A named integer: ``constexpr ctype name = text;``."""

    name: str
    ctype: str
    text: str
    uses_floor_div: bool = False


@dataclass(frozen=True, slots=True)
class SegmentView:
    """Part of an array of default values: the table `name` of `size` numbers, `repeat` times."""

    name: str
    size: int
    repeat: int


@dataclass(frozen=True, slots=True)
class DefaultView:
    """Default values of one of a solver's inputs.

    Attributes:
        name: of the input, ``x_lb``.
        member: of the solver that holds it.
        count: name of the constant that says how many numbers there are.
        segments: the numbers.
    """

    name: str
    member: str
    count: str
    segments: tuple[SegmentView, ...]


@dataclass(frozen=True, slots=True)
class SolverView:
    """A generated solver.

    Attributes:
        name: C++ identifier, also its namespace.
        source: what it was in Python, one line.
        real: C++ type of all numbers, ``double`` or ``float``.
        dtype: NumPy name of the same.
        kernels: the functions it evaluates, in namespaces of their names.
        model: C++ text that defines ``struct model`` from the kernels.
        defaults: bounds and right-hand sides.
        tables: constants of `model` and `defaults`.
        runtime: run-time headers it needs.
        subproblem: C++ type that solves the quadratic programs, in terms of ``model``.
        variables, equalities, inequalities, parameters: sizes.
        initial_equalities: leading equalities whose right-hand side is measured.
        has_stages: whether variables can be shifted by a stage.
        takes_qp_solver: whether the user says who solves the quadratic programs.
        calls_piqp: whether PIQP's C library solves them.
        notes: lines of the header comment.
    """

    name: str
    source: str
    real: str
    dtype: str
    kernels: tuple[FunctionView, ...]
    model: str
    defaults: tuple[DefaultView, ...]
    tables: tuple[TableView, ...]
    runtime: tuple[str, ...]
    subproblem: str
    variables: int
    equalities: int
    inequalities: int
    parameters: int
    initial_equalities: int
    has_stages: bool
    takes_qp_solver: bool
    calls_piqp: bool
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ParameterView:
    """One parameter of the C++ function ``call``.

    Attributes:
        name: parameter name, unique in its function and different from every constant.
        type: alias declared for it, ``IN0_t``.
        buffer: template arguments of its Buffer, ``const double, 3, 3``.
        text: for people: ``x: float64[3, 3]``.
    """

    name: str
    type: str
    buffer: str
    text: str


@dataclass(frozen=True, slots=True)
class InterfaceView:
    """One function as the module's files show it.

    Attributes:
        name, source, notes, code, workspace_nbytes, operations: as in `FunctionView`.
        inputs, outputs: parameters in call order.
        signature: parameter list of ``call``.
        arguments: argument list with which ``call`` forwards to ``evaluate``.
        is_sparse: whether there is a `sparsity`.
    """

    name: str
    source: str
    inputs: tuple[ParameterView, ...]
    outputs: tuple[ParameterView, ...]
    signature: str
    arguments: str
    code: str
    workspace_nbytes: int
    operations: int
    notes: tuple[str, ...]
    is_sparse: bool
    sparsity: SparsityView | None


@dataclass(frozen=True, slots=True)
class ModuleView:
    """A whole module.

    Attributes:
        name: C++ identifier, also the namespace.
        generator: first line of every file, without comment signs.
        functions: in the order given by the user.
        constants: dependencies first.
        has_floor_div: whether a constant calls ``floor_div``.
        tables: the tables of all functions, each once.
        includes: system headers of the source file, ``<cmath>``.
        conditional_includes: ``#if`` blocks that include system headers.
        runtime: text of the run-time headers in use, may be empty.
        cmake_option: prefix of the CMake options.
        has_tables, has_runtime: whether there are any.
        has_self_test, has_c_abi: which optional files belong to the module.
        solvers: in the order given by the user.
        needs_piqp: whether a solver calls PIQP's C library.
        has_qp_interface: whether quadratic programs leave a solver.
    """

    name: str
    generator: str
    functions: tuple[InterfaceView, ...]
    constants: tuple[ConstantView, ...]
    has_floor_div: bool
    tables: tuple[TableView, ...]
    includes: tuple[str, ...]
    conditional_includes: tuple[str, ...]
    runtime: str
    cmake_option: str
    has_tables: bool
    has_runtime: bool
    has_self_test: bool
    has_c_abi: bool
    solvers: tuple[SolverView, ...] = ()
    needs_piqp: bool = False
    has_qp_interface: bool = False


@dataclass(frozen=True, slots=True)
class DeviceLaunchView:
    """One launch as the module's file shows it.

    Attributes:
        kernel: number of the kernel in its module.
        groups, threads: as in `LaunchView`.
        begins: lines that open loops around it and those behind it.
        ends: lines that close them.
        arguments: addresses of the kernel's arguments, ``&anvil_p[0], &anvil_p[2]``.
    """

    kernel: int
    groups: int
    threads: int
    arguments: str
    begins: tuple[str, ...] = ()
    ends: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class DeviceInterfaceView(InterfaceView):
    """One function for a graphics processor as the module's file shows it.

    Attributes:
        device_signature: parameter list of ``call_device``.
        addresses: of the arrays, in call order.
        host_arrays: initialisers of ``HostArray``, in call order.
        copies: the arrays as ``call`` hands them to ``call_device``.
        launches: in order.
    """

    device_signature: str = ""
    addresses: tuple[str, ...] = ()
    host_arrays: tuple[str, ...] = ()
    copies: str = ""
    launches: tuple[DeviceLaunchView, ...] = ()


@dataclass(frozen=True, slots=True)
class ImageView:
    """PTX compiled ahead of time: architecture, 80 for sm_80, and the text in pieces."""

    architecture: int
    pieces: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class DeviceModuleView:
    """A whole module for a graphics processor.

    Attributes:
        name, generator, constants, has_floor_div, cmake_option, has_self_test: as in `ModuleView`.
        room: of the templates, ``cuda`` or ``metal``.
        functions: in the order given by the user.
        pieces: the text of the kernels, cut because compilers limit the length of a literal.
        kernels: their names, by number.
        images: PTX compiled ahead of time, the newest architecture first.
    """

    name: str
    room: str
    generator: str
    functions: tuple[DeviceInterfaceView, ...]
    constants: tuple[ConstantView, ...]
    has_floor_div: bool
    cmake_option: str
    has_self_test: bool
    pieces: tuple[str, ...]
    kernels: tuple[str, ...]
    images: tuple[ImageView, ...] = ()


@dataclass(frozen=True, slots=True)
class CasadiBufferView:
    """One argument or result in CasADi's form: a dense matrix in column-major order.

    Attributes:
        index: position among the arguments or results.
        name: CasADi name.
        rows, cols: of the matrix.
        size: number of values.
        is_transposed: whether it must be copied between row-major and column-major order.
        scratch: where its copy starts in the scratch memory, in doubles.
        pattern: rows, columns, then 1 for dense, or column starts and row indices.
        pattern_size: number of integers in `pattern`.
    """

    index: int
    name: str
    rows: int
    cols: int
    size: int
    is_transposed: bool
    scratch: int
    pattern: str
    pattern_size: int


@dataclass(frozen=True, slots=True)
class CasadiFunctionView:
    """One function in CasADi's external-function form.

    Attributes:
        name: symbol.
        bridge: C symbol in the module's source file that calls ``evaluate``.
        bridge_parameters: its parameter list.
        inputs, outputs: arguments and results.
        arguments: what the bridge is called with.
        scratch_size: doubles for copies and the aligned workspace.
    """

    name: str
    bridge: str
    bridge_parameters: str
    inputs: tuple[CasadiBufferView, ...]
    outputs: tuple[CasadiBufferView, ...]
    arguments: str
    scratch_size: int


@dataclass(frozen=True, slots=True)
class SampleView:
    """Inputs of one function with the outputs that JAX computed.

    Attributes:
        inputs, outputs: one table each.
        tolerances: literal per output, absolute.
    """

    inputs: tuple[TableView, ...]
    outputs: tuple[TableView, ...]
    tolerances: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class CheckView:
    """One comparison in the self-test.

    Attributes:
        what: for the message, ``step.out``.
        found, expected: variable and table.
        type: buffer type, ``OUT0_t``.
        tolerance: literal.
    """

    what: str
    found: str
    expected: str
    type: str
    tolerance: str


@dataclass(frozen=True, slots=True)
class TestRunView:
    """One call in the self-test with the comparisons that follow it.

    Attributes:
        arguments: of the call.
        checks: comparisons.
        may_fail: whether the call returns a Status, without which nothing is compared.
    """

    arguments: str
    checks: tuple[CheckView, ...]
    may_fail: bool = False


@dataclass(frozen=True, slots=True)
class TestedView:
    """One function in the self-test: `outputs` are the buffer types of the results."""

    name: str
    outputs: tuple[str, ...]
    runs: tuple[TestRunView, ...]
