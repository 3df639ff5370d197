"""Prints a program as C++17.

One program becomes one `evaluate` function. Long straight-line code is cut into functions of about
`layout.STATEMENTS_PER_FUNCTION` statements, because compile time grows faster than linearly with
the length of a function; values that cross a cut travel through the workspace.

The order of work: `layout.Layout` decides which C++ function every statement belongs to and where
every buffer lives, `_Printer` writes the text.
"""

from collections import Counter
from dataclasses import dataclass, field

from anvil_jax.dtypes import ELEMENT_TYPES
from anvil_jax.emit.literals import literal, table
from anvil_jax.emit.views import BufferView, FunctionView, TableView
from anvil_jax.kernels.adapter import Ops, UOp, dtype_name
from anvil_jax.kernels.buffers import ALIGNMENT
from anvil_jax.kernels.expression import is_float
from anvil_jax.kernels.program import (
    Argument,
    Block,
    BreakUnless,
    Buffer,
    Call,
    For,
    Forever,
    Program,
    Statement,
    Store,
    Switch,
)
from anvil_jax.kernels.schedule import Item, schedule, walk
from anvil_jax.targets.intrinsics import INTRINSICS
from anvil_jax.targets.layout import Layout, Outlined, Unit
from anvil_jax.targets.statistics import count_operations


@dataclass(frozen=True, slots=True)
class SignatureNames:
    """Names of arguments and results, their shapes, and what the function was in Python."""

    source: str
    inputs: tuple[tuple[str, tuple[int, ...]], ...]
    outputs: tuple[tuple[str, tuple[int, ...]], ...]


@dataclass(slots=True)
class _Text:
    """Text of one C++ function under construction and what it refers to from outside."""

    lines: list[str] = field(default_factory=list)
    pointers: set[Buffer] = field(default_factory=set)
    counters: dict[UOp, str] = field(default_factory=dict)
    workspace: dict[Buffer, str] = field(default_factory=dict)
    needs_workspace: bool = False


class _Printer:
    def __init__(self, program: Program, layout: Layout) -> None:
        self.program = program
        self.layout = layout
        self.plan = layout.plan
        self.names: dict[UOp, str] = {}
        self.buffer_names: dict[Buffer, str] = {}
        self.tables: dict[Buffer, TableView] = {}
        self.runtime: dict[str, None] = {}
        self.functions: list[str] = []
        self.operations: Counter[str] = Counter()
        self._pairs = self._angle_pairs()
        for k, b in enumerate(program.inputs):
            self.buffer_names[b] = f"in{k}"
        for k, b in enumerate(program.outputs):
            self.buffer_names[b.storage] = f"out{k}"
        for b in program.constants:
            assert b.data is not None
            self.tables[b] = table(b.data)
            self.buffer_names[b] = self.tables[b].name

    def _angle_pairs(self) -> dict[UOp, UOp]:
        """sin(x) <-> cos(x) computed in the same function and block: one call gives both."""
        found: dict[tuple[UOp, Block, object], dict[str, UOp]] = {}
        for node, block in self.plan.block_of.items():
            if node.op is Ops.CUSTOM and node.arg in ("sin", "cos"):
                key = (node.src[0], block, self.layout.unit_of[node])
                found.setdefault(key, {})[node.arg] = node
        pairs = {}
        for both in found.values():
            if len(both) == 2:
                pairs[both["sin"]] = both["cos"]
                pairs[both["cos"]] = both["sin"]
        return pairs

    # -- functions ------------------------------------------------------------------------------

    def entry(self) -> str:
        """Prints everything; returns the definitions in order, `evaluate` last."""
        text = _Text()
        self._block(self.program.root, text, self.layout.entry, "  ")
        self._finish(text, self.layout.entry, whole_signature=True)
        return "\n".join(self.functions)

    def _finish(self, text: _Text, unit: Unit, *, whole_signature: bool) -> str:
        """Wraps the collected lines into a function definition; returns a call of it."""
        parameters, arguments = [], []
        for b in (*self.program.inputs, *(o.storage for o in self.program.outputs)):
            used = b in text.pointers
            if used or whole_signature:
                const = "const " if b.space == "input" else ""
                name = self.buffer_names[b] if used else f"/*{self.buffer_names[b]}*/"
                ctype = ELEMENT_TYPES[b.dtype].cpp
                parameters.append(f"{const}{ctype}* __restrict__ {name}")
                arguments.append(self.buffer_names[b])
        if text.needs_workspace or whole_signature:
            name = "ws" if text.needs_workspace else "/*ws*/"
            parameters.append(f"unsigned char* __restrict__ {name}")
            arguments.append("ws")
        outside = [n for n in text.counters if self.names.get(n) is not None]
        for n in sorted(outside, key=self.program.order.__getitem__):
            parameters.append(f"const int {self.names[n]}")
            arguments.append(self.names[n])
        attribute = "" if whole_signature else "__attribute__((noinline)) "
        pointers = [
            f"  {ELEMENT_TYPES[b.dtype].cpp}* const {name} = "
            f"reinterpret_cast<{ELEMENT_TYPES[b.dtype].cpp}*>(ws + {self.layout.offsets[b]});"
            for b, name in text.workspace.items()
        ]
        head = f"{attribute}void {unit.name}({', '.join(parameters)}) noexcept {{"
        self.functions.append("\n".join([head, *pointers, *text.lines, "}", ""]))
        return f"{unit.name}({', '.join(arguments)});"

    def _outline(self, piece: Outlined, block: Block, caller: _Text) -> str:
        text = _Text()
        self._items(piece.items, block, text, piece.unit, "  ")
        call = self._finish(text, piece.unit, whole_signature=False)
        caller.pointers |= text.pointers
        caller.needs_workspace |= text.needs_workspace
        for counter in text.counters:
            caller.counters.setdefault(counter, self.names[counter])
        return call

    # -- statements -----------------------------------------------------------------------------

    def _block(self, block: Block, text: _Text, unit: Unit, indent: str) -> None:
        for b in self.layout.local:
            if (b.scope or self.program.root) is block and b not in self.buffer_names:
                self.buffer_names[b] = f"b{self._fresh('b')}"
        declared = [b for b in self.layout.local if (b.scope or self.program.root) is block]
        for b in sorted(declared, key=lambda b: int(self.buffer_names[b][1:])):
            ctype = ELEMENT_TYPES[b.dtype].cpp
            text.lines.append(f"{indent}{ctype} {self.buffer_names[b]}[{max(b.size, 1)}];")
        for piece in self.layout.pieces[block]:
            if isinstance(piece, Outlined):
                text.lines.append(indent + self._outline(piece, block, text))
            else:
                self._items((piece,), block, text, unit, indent)

    def _items(
        self, items: tuple[Item, ...], block: Block, text: _Text, unit: Unit, indent: str
    ) -> None:
        for item in items:
            if isinstance(item, UOp):
                self._define(item, text, unit, indent)
            else:
                self._statement(item, text, unit, indent)

    def _define(self, node: UOp, text: _Text, unit: Unit, indent: str) -> None:
        if node in self.names:
            return  # defined together with its sine or cosine
        ctype = _ctype(node)
        other = self._pairs.get(node)
        if other is not None:
            sine, cosine = (node, other) if node.arg == "sin" else (other, node)
            angle = self._ref(node.src[0], text, unit)
            self.names[sine] = f"t{self._fresh('t')}"
            self.names[cosine] = f"t{self._fresh('t')}"
            self._require("sin")
            text.lines.append(
                f"{indent}{ctype} {self.names[sine]}, {self.names[cosine]}; "
                f"anvil_rt::sincos({angle}, {self.names[sine]}, {self.names[cosine]});"
            )
            self._keep_crossing(sine, text, indent)
            self._keep_crossing(cosine, text, indent)
            return
        expression = self._expression(node, text, unit)
        self.names[node] = f"t{self._fresh('t')}"
        text.lines.append(f"{indent}const {ctype} {self.names[node]} = {_bare(expression)};")
        self._keep_crossing(node, text, indent)

    def _keep_crossing(self, node: UOp, text: _Text, indent: str) -> None:
        if node in self.layout.spilled:
            buffer, slot = self.layout.spilled[node]
            text.lines.append(f"{indent}{self._buffer(buffer, text)}[{slot}] = {self.names[node]};")

    def _statement(self, statement: Statement, text: _Text, unit: Unit, indent: str) -> None:
        inner = indent + "  "
        match statement:
            case Store():
                target = self._buffer(statement.buffer, text)
                index = _bare(self._ref(statement.index, text, unit))
                value = _bare(self._ref(statement.value, text, unit))
                text.lines.append(f"{indent}{target}[{index}] = {value};")
            case For():
                name = self.names[statement.variable] = f"i{self._fresh('i')}"
                text.lines.append(
                    f"{indent}for (int {name} = 0; {name} < {statement.trips}; ++{name}) {{"
                )
                self._block(statement.body, text, unit, inner)
                text.lines.append(indent + "}")
                text.counters.pop(statement.variable, None)
            case Forever():
                text.lines.append(indent + "for (;;) {")
                self._block(statement.body, text, unit, inner)
                text.lines.append(indent + "}")
            case BreakUnless():
                condition = self._ref(statement.condition, text, unit)
                text.lines.append(f"{indent}if (!{condition}) break;")
            case Switch():
                self._switch(statement, text, unit, indent)
            case Call():
                self.runtime[statement.header] = None
                arguments = [str(number) for number in statement.literals]
                arguments += [self._argument(a, text, unit) for a in statement.arguments]
                called = f"anvil_rt::{statement.function}({', '.join(arguments)});"
                text.lines.append(indent + called)

    def _switch(self, statement: Switch, text: _Text, unit: Unit, indent: str) -> None:
        selector = _bare(self._ref(statement.selector, text, unit))
        inner = indent + "  "
        if dtype_name(statement.selector) == "bool":
            otherwise, chosen = statement.branches
            text.lines.append(f"{indent}if ({selector}) {{")
            self._block(chosen, text, unit, inner)
            if self.layout.pieces[otherwise]:
                text.lines.append(f"{indent}}} else {{")
                self._block(otherwise, text, unit, inner)
            text.lines.append(indent + "}")
            return
        text.lines.append(f"{indent}switch ({selector}) {{")
        last = len(statement.branches) - 1
        for k, branch in enumerate(statement.branches):
            text.lines.append(f"{indent}{f'case {k}' if k < last else 'default'}: {{")
            self._block(branch, text, unit, inner)
            text.lines.append(f"{inner}break;")
            text.lines.append(indent + "}")
        text.lines.append(indent + "}")

    def _argument(self, argument: Argument, text: _Text, unit: Unit) -> str:
        name = self._buffer(argument.buffer, text)
        offset = self._ref(argument.offset, text, unit)
        return name if offset == "0" else f"{name} + {offset}"

    # -- expressions ----------------------------------------------------------------------------

    def _fresh(self, letter: str) -> int:
        self.operations["name " + letter] += 1
        return self.operations["name " + letter] - 1

    def _require(self, intrinsic: str) -> str:
        row = INTRINSICS[intrinsic]
        self.runtime[row.header] = None
        return f"anvil_rt::{row.function}"

    def _buffer(self, buffer: Buffer, text: _Text) -> str:
        buffer = buffer.storage
        if buffer.space in ("input", "output"):
            text.pointers.add(buffer)
            return self.buffer_names[buffer]
        if buffer in self.layout.local or buffer.space == "constant":
            return self.buffer_names[buffer]
        text.needs_workspace = True
        name = self.buffer_names.setdefault(buffer, f"w{len(self.buffer_names)}")
        text.workspace[buffer] = name
        return name

    def _ref(self, node: UOp, text: _Text, unit: Unit) -> str:
        """Text that stands for the node's value inside a larger expression."""
        if node.op is Ops.CONST:
            if dtype_name(node) == "index":
                return str(node.arg) if node.arg >= 0 else f"({node.arg})"
            return literal(node.arg if node.tag != "-0" else -0.0, dtype_name(node))
        if node.op is Ops.RANGE:
            text.counters.setdefault(node, self.names[node])
            return self.names[node]
        if node in self.plan.inlined:
            return self._expression(node, text, unit)
        if self.layout.unit_of[node] is not unit:
            buffer, slot = self.layout.spilled[node]
            return f"{self._buffer(buffer, text)}[{slot}]"
        return self.names[node]

    def _expression(self, node: UOp, text: _Text, unit: Unit) -> str:
        dtype = dtype_name(node)
        if node.op is Ops.LOAD:
            base, index = node.src[0].src
            place = _bare(self._ref(index, text, unit))
            return f"{self._buffer(base.arg, text)}[{place}]"
        args = [self._ref(s, text, unit) for s in node.src]
        match node.op:
            case Ops.CAST:
                return self._cast(dtype_name(node.src[0]), dtype, args[0])
            case Ops.BITCAST:
                return f"{self._require('bitcast')}<{_ctype(node)}>({_bare(args[0])})"
            case Ops.WHERE:
                return f"({args[0]} ? {args[1]} : {args[2]})"
            case Ops.CUSTOM:
                return self._custom(node, dtype, args)
            case Ops.SQRT:
                return f"std::sqrt({_bare(args[0])})"
            case Ops.NEG if is_float(node):
                return f"(-{args[0]})"
            case Ops.NEG:
                return f"{self._require('wrap_neg')}<{_ctype(node)}>({_bare(args[0])})"
            case Ops.ADD | Ops.SUB | Ops.MUL if not is_float(node) and dtype != "index":
                wrapped = {Ops.ADD: "wrap_add", Ops.SUB: "wrap_sub", Ops.MUL: "wrap_mul"}[node.op]
                return f"{self._require(wrapped)}<{_ctype(node)}>({', '.join(map(_bare, args))})"
            case Ops.ADD if (
                dtype == "index" and node.src[1].op is Ops.CONST and (node.src[1].arg < 0)
            ):
                return f"({args[0]} - {-node.src[1].arg})"
            case Ops.AND | Ops.OR | Ops.XOR if ELEMENT_TYPES[dtype].bits < 32 and dtype != "bool":
                return f"static_cast<{_ctype(node)}>({args[0]} {_SYMBOLS[node.op]} {args[1]})"
            case Ops.AND | Ops.OR if dtype == "bool":
                return f"({args[0]} {_SYMBOLS[node.op] * 2} {args[1]})"
            case _:
                return f"({args[0]} {_SYMBOLS[node.op]} {args[1]})"

    def _custom(self, node: UOp, dtype: str, args: list[str]) -> str:
        name = node.arg
        if name == "nan":
            return f"std::numeric_limits<{_ctype(node)}>::quiet_NaN()"
        if name == "not":
            return f"(!{args[0]})"
        if name == "le":
            return f"({args[0]} <= {args[1]})"
        if name in ("maximum", "minimum") and not is_float(node):
            name = {"maximum": "int_max", "minimum": "int_min"}[name]
        operand = "int" if dtype == "index" else _ctype(node.src[0])
        return f"{self._require(name)}<{operand}>({', '.join(map(_bare, args))})"

    def _cast(self, source: str, dtype: str, value: str) -> str:
        ctype = "int" if dtype == "index" else ELEMENT_TYPES[dtype].cpp
        if dtype == "bool":
            return f"({value} != {literal(0, 'int32' if source == 'index' else source)})"
        if source.startswith("float") and not dtype.startswith("float"):
            return f"{self._require('convert')}<{ctype}>({_bare(value)})"
        return f"static_cast<{ctype}>({_bare(value)})"


_SYMBOLS = {
    Ops.ADD: "+", Ops.SUB: "-", Ops.MUL: "*", Ops.FDIV: "/", Ops.CDIV: "/", Ops.CMOD: "%",
    Ops.CMPLT: "<", Ops.CMPEQ: "==", Ops.CMPNE: "!=", Ops.AND: "&", Ops.OR: "|", Ops.XOR: "^",
}  # fmt: skip


def _ctype(node: UOp) -> str:
    name = dtype_name(node)
    return "int" if name == "index" else ELEMENT_TYPES[name].cpp


def _bare(text: str) -> str:
    """Drops one pair of parentheses that encloses the whole text."""
    if not text.startswith("("):
        return text
    depth = 0
    for k, c in enumerate(text):
        depth += (c == "(") - (c == ")")
        if depth == 0:
            return text[1:-1] if k == len(text) - 1 else text
    return text


def render(program: Program, name: str, signature: SignatureNames) -> FunctionView:
    """The C++ text of a program (which loses its dead statements on the way)."""
    plan = schedule(program)
    layout = Layout(program, plan)
    printer = _Printer(program, layout)
    code = printer.entry()
    used = [b for b in program.constants if printer.buffer_names[b] in code]
    loops = sum(isinstance(s, For | Forever) for _, s in walk(program.root))
    return FunctionView(
        name=name,
        source=signature.source,
        inputs=_views(signature.inputs, program.inputs),
        outputs=_views(signature.outputs, program.outputs),
        code=code,
        tables=tuple(printer.tables[b] for b in used),
        runtime=tuple(sorted(printer.runtime)),
        workspace_nbytes=-(-layout.workspace_nbytes // ALIGNMENT) * ALIGNMENT,
        operations=count_operations(program, plan),
        notes=(f"C++ functions: {len(printer.functions)}. Loops: {loops}.",),
    )


def _views(
    names: tuple[tuple[str, tuple[int, ...]], ...], buffers: tuple[Buffer, ...]
) -> tuple[BufferView, ...]:
    return tuple(
        BufferView(name, ELEMENT_TYPES[b.dtype].cpp, b.dtype, shape)
        for (name, shape), b in zip(names, buffers, strict=True)
    )
