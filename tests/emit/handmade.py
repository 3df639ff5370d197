"""Function views written by hand: modules can be tested without tracing or lowering."""

import numpy as np

from anvil_jax.emit.literals import table
from anvil_jax.emit.views import (
    BufferView,
    ConstantView,
    FunctionView,
    SampleView,
    SparsityView,
)


def real(name: str, *shape: int) -> BufferView:
    return BufferView(name, "double", "float64", shape)


GAINS = table(np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]))

MATVEC = FunctionView(
    name="matvec",
    source="models.matvec",
    inputs=(real("A", 2, 3), real("x", 3)),
    outputs=(real("out_y", 2), real("out_scaled", 2, 3)),
    code=f"""\
void evaluate(const double* in0, const double* in1, double* out0, double* out1,
              unsigned char* ws) noexcept {{
  double* sum = reinterpret_cast<double*>(ws);
  for (int i = 0; i < 2; ++i) {{
    sum[i] = 0.0;
    for (int j = 0; j < 3; ++j) {{
      sum[i] += in0[3 * i + j] * in1[j];
      out1[3 * i + j] = in0[3 * i + j] * {GAINS.name}[3 * i + j];
    }}
    out0[i] = sum[i];
  }}
}}""",
    tables=(GAINS,),
    runtime=("integer.hpp",),
    workspace_nbytes=64,
    operations=18,
    notes=("A note\nof two lines \\",),
)

# Named like its module; scalars, an empty array, rank 3, and a parameter named like a constant.
ODD = FunctionView(
    name="models",
    source="models.<lambda>",
    inputs=(real("N"), real("none", 0), real("cube", 2, 2, 2)),
    outputs=(real("out"), real("nothing", 0, 3)),
    code=f"""\
void evaluate(const double* in0, const double*, const double* in2, double* out0, double*,
              unsigned char*) noexcept {{
  *out0 = *in0 * 2.0 + in2[1] + {GAINS.name}[5];
}}""",
    tables=(GAINS,),
    runtime=(),
    workspace_nbytes=0,
    operations=3,
)

NOTHING = FunctionView(
    name="nothing",
    source="models.nothing",
    inputs=(),
    outputs=(),
    code="void evaluate(unsigned char*) noexcept {}",
    tables=(),
    runtime=(),
    workspace_nbytes=0,
    operations=0,
)

MIXED = FunctionView(
    name="mixed",
    source="models.mixed",
    inputs=(
        BufferView("flag", "bool", "bool", ()),
        BufferView("count", "std::int32_t", "int32", (2,)),
        BufferView("x", "float", "float32", (2,)),
    ),
    outputs=(BufferView("out", "float", "float32", (2,)),),
    code="""\
void evaluate(const bool* in0, const std::int32_t* in1, const float* in2, float* out0,
              unsigned char*) noexcept {
  for (int i = 0; i < 2; ++i) {
    out0[i] = *in0 ? in2[i] * static_cast<float>(in1[i]) : 0.0f;
  }
}""",
    tables=(),
    runtime=(),
    workspace_nbytes=0,
    operations=2,
)

SPARSE = FunctionView(
    name="diagonal",
    source="models.diagonal",
    inputs=(real("rows", 2),),
    outputs=(real("out", 2),),
    code="""\
void evaluate(const double* in0, double* out0, unsigned char*) noexcept {
  out0[0] = in0[0];
  out0[1] = in0[1];
}""",
    tables=(),
    runtime=(),
    workspace_nbytes=0,
    operations=0,
    sparsity=SparsityView(
        rows=2,
        cols=3,
        nnz=2,
        inner=table(np.array([0, 1], "int32")),
        outer=table(np.array([0, 1, 1, 2], "int32")),
    ),
)

ALL = (MATVEC, ODD, NOTHING, MIXED, SPARSE)
REAL = (MATVEC, ODD, NOTHING, SPARSE)

CONSTANTS = (
    ConstantView("N", "int", "7"),
    ConstantView("half", "int", "floor_div(-N, 2)", uses_floor_div=True),
)

A = np.array([[1.0, 2.0, 3.0], [-1.0, 0.5, 4.0]])
X = np.array([1.0, -2.0, 0.5])
CUBE = np.arange(8.0).reshape(2, 2, 2)


def sample(inputs: tuple[object, ...], outputs: tuple[object, ...]) -> SampleView:
    return SampleView(
        tuple(map(table, inputs)), tuple(map(table, outputs)), ("1e-15",) * len(outputs)
    )


SAMPLES = {
    "matvec": [sample((A, X), (A @ X, A * np.arange(1.0, 7.0).reshape(2, 3)))],
    "models": [sample((3.0, np.zeros(0), CUBE), (13.0, np.zeros((0, 3))))],
    "nothing": [sample((), ())],
    "mixed": [
        sample(
            (np.bool_(True), np.array([2, 3], "int32"), np.array([0.5, np.nan], "float32")),
            (np.array([1.0, np.nan], "float32"),),
        )
    ],
    "diagonal": [sample((np.array([1.0, -0.0]),), (np.array([1.0, -0.0]),))],
}
