"""The whole table, by family; families are named after the modules of anvil_jax.lowering."""

from tests.cases import (
    calls,
    contraction,
    control_flow,
    cumulative,
    derivatives,
    elementwise,
    indexing,
    linalg,
    programs,
    random,
    reductions,
    sorting,
    structural,
    windows,
)
from tests.cases.case import Case

TABLE: dict[str, tuple[Case, ...]] = {
    "elementwise": elementwise.CASES,
    "structural": structural.CASES,
    "reductions": reductions.CASES,
    "cumulative": cumulative.CASES,
    "contraction": contraction.CASES,
    "indexing": indexing.CASES,
    "windows": windows.CASES,
    "control_flow": control_flow.CASES,
    "calls": calls.CASES,
    "linalg": linalg.CASES,
    "sorting": sorting.CASES,
    "random": random.CASES,
    "derivatives": derivatives.CASES,
    "programs": programs.CASES,
}
