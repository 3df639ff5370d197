"""Where expressions are computed: out of loops, never out of branches, once."""

import re

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from anvil_jax.kernels.adapter import Ops, UOp
from anvil_jax.kernels.program import For, Program, Store, Switch, operands
from anvil_jax.kernels.schedule import Schedule, is_atom, schedule, walk
from anvil_jax.lowering import lower
from anvil_jax.tracing import trace
from tests.cases.case import TENSOR, Kernel
from tests.cases.table import TABLE
from tests.support.native import make_view

X = np.linspace(-1.0, 2.0, 90)


def scheduled(function, *inputs, kernel: Kernel = "auto") -> tuple[Program, Schedule]:
    program = lower(trace(function, inputs), kernel)
    return program, schedule(program)


def lines(function, *inputs, kernel: Kernel = "auto") -> list[tuple[int, str]]:
    """Depth in braces and text of each line of `evaluate`."""
    depth, found = 0, []
    for line in make_view("f", function, inputs, kernel).code.splitlines():
        text = line.strip()
        if text.startswith("}"):
            depth -= 1
        found.append((depth, text))
        depth += text.count("{") - text.count("}") + (1 if text.startswith("}") else 0)
    return found


def depths(found: list[tuple[int, str]], name: str) -> list[int]:
    return [depth for depth, text in found if re.search(rf"\b{name}\(", text)]


def test_loop_invariant_code_leaves_the_loop():
    found = lines(lambda x, a: lax.fori_loop(0, 99, lambda i, c: c * jnp.cosh(a) + i, x), X, 1.0)
    assert depths(found, "cosh<double>") == [1]


def test_loop_invariant_code_leaves_nested_loops_one_by_one():
    def model(x, a):
        def outer(i, c):
            return lax.fori_loop(0, 50, lambda j, d: d * jnp.cosh(a + i) + jnp.sinh(a), c)

        return lax.fori_loop(0, 60, outer, x)

    found = lines(model, np.array(1.0), 0.3)
    assert depths(found, "sinh<double>") == [1]
    assert depths(found, "cosh<double>") == [2]


def costly(x):
    for _ in range(30):
        x = jnp.cosh(x) * 0.1
    return x


def test_branch_code_stays_in_the_branch():
    found = lines(lambda p, x: lax.cond(p, costly, lambda x: x, x), True, np.array(0.5))
    assert min(depths(found, "cosh<double>")) == 2


def test_invariant_code_of_a_branch_does_not_leave_the_branch_in_a_loop():
    def model(x, a):
        return lax.fori_loop(
            0, 80, lambda i, c: lax.cond(i > 40, lambda c: c + costly(a), lambda c: c, c), x
        )

    found = lines(model, np.array(0.5), 0.1)
    assert min(depths(found, "cosh<double>")) == 3


def test_code_of_both_branches_is_computed_once_before_them():
    def model(p, x):
        return lax.cond(p, lambda: jnp.sinh(x) + costly(x), lambda: jnp.sinh(x) * 2)

    found = lines(model, True, np.array(0.5))
    assert depths(found, "sinh<double>") == [1]


def test_common_subexpressions_meet():
    found = lines(lambda x: (jnp.cosh(x) + 1, jnp.cosh(x) * 2), np.array(0.5))
    assert len(depths(found, "cosh<double>")) == 1


def test_sine_and_cosine_of_one_angle_are_one_call():
    found = lines(lambda x: jnp.sin(x) * jnp.cos(x), np.array(0.5))
    assert len(depths(found, "sincos")) == 1
    assert not depths(found, "sin<double>")


def test_unused_results_are_dropped():
    def model(x):
        jnp.cosh(x)
        return lax.scan(lambda c, _: (c + 1, jnp.sinh(c)), x, None, length=50)[0]

    found = lines(model, np.array(0.5))
    assert not depths(found, "cosh<double>")
    assert not depths(found, "sinh<double>")


def test_loops_stay_loops():
    lengths = [
        len(
            make_view(
                "f", lambda x, n=n: lax.fori_loop(0, n, lambda i, c: jnp.sin(c), x), (X,)
            ).code
        )
        for n in (100, 900)
    ]
    assert lengths[0] == lengths[1]


def test_loops_without_carry_are_parallel():
    program, _ = scheduled(lambda x: lax.map(lambda v: jnp.tanh(v).sum(), x), np.ones((50, 70)))
    outer = [s for s in program.root.statements if isinstance(s, For)]
    assert [s.parallel for s in outer] == [True]
    program, _ = scheduled(lambda x: lax.fori_loop(0, 900, lambda i, c: jnp.sin(c), x), 1.0)
    outer = [s for s in program.root.statements if isinstance(s, For)]
    assert [s.parallel for s in outer] == [False]


def check_schedule(program: Program, plan: Schedule) -> None:
    """Every value is computed before its uses, in a block that encloses them."""
    position: dict[UOp, tuple] = {}
    for block, items in plan.items.items():
        for k, item in enumerate(items):
            if isinstance(item, UOp):
                position[item] = (block, k)
    variables = {s.variable: s.body for _, s in walk(program.root) if isinstance(s, For)}

    def path(block) -> list:
        found = []
        while block is not None:
            found.append(block)
            block = block.parent
        return found

    def check_use(node: UOp, block, k: int) -> None:
        pending = [node]
        while pending:
            node = pending.pop()
            if node.op is Ops.RANGE:
                assert variables[node] in path(block)
            if node in position:
                home, at = position[node]
                inner, place = block, k
                while inner is not home:
                    owner, inner = inner.owner, inner.parent
                    assert inner is not None, "used outside of the block it is computed in"
                    place = plan.items[inner].index(owner)
                assert at < place, "used before it is computed"
            else:
                assert is_atom(node) or node in plan.inlined
                pending.extend(node.src)

    for block, items in plan.items.items():
        for k, item in enumerate(items):
            for source in item.src if isinstance(item, UOp) else operands(item):
                check_use(source, block, k)


def test_every_schedule_is_valid():
    with jax.enable_x64(True):
        cases = [*TABLE["control_flow"], *TABLE["programs"][:20]]
    for c in cases:
        for kernel in TENSOR:
            check_schedule(*scheduled(c.function, *c.inputs, kernel=kernel))


def test_statements_of_a_program():
    program, plan = scheduled(
        lambda p, x: lax.cond(p, costly, lambda x: x * 2, x), True, np.array(0.5)
    )
    kinds = [type(s) for s in program.root.statements]
    assert Switch in kinds
    assert any(isinstance(s, Store) for _, s in walk(program.root))
    assert set(plan.items) >= {program.root}
