"""Convolutions and reductions over sliding windows."""

# ruff: noqa: E501 - a case is one line

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from tests.cases.case import FLOATS, Data, case

_data = Data(13)

_IMAGE, _KERNEL = _data.normal(2, 3, 6, 5), _data.normal(4, 3, 3, 2)
_X, _BIG, _K = _data.normal(9), _data.normal(13, 11), _data.normal(4)
_CHANNELS_LAST = ("NHWC", "HWIO", "NHWC")


def _convolve(**options):
    strides = options.pop("window_strides", (1, 1))
    padding = options.pop("padding", "VALID")
    return lambda x, k: lax.conv_general_dilated(x, k, strides, padding, **options)


def _windows(window, strides, padding, **options):
    """The three reductions of one geometry."""
    return lambda x: tuple(
        lax.reduce_window(x, np.asarray(start, x.dtype), f, window, strides, padding, **options)
        for f, start in ((lax.add, 0), (lax.max, -np.inf), (lax.min, np.inf))
    )


CASES = (
    case("convolution", _convolve(), _IMAGE, _KERNEL),
    case("same", _convolve(padding="SAME"), _IMAGE, _KERNEL),
    case("explicit_padding", _convolve(padding=((1, 2), (0, 3))), _IMAGE, _KERNEL),
    case("negative_padding", _convolve(padding=((-1, 0), (1, -1))), _IMAGE, _KERNEL),
    case("strides", _convolve(window_strides=(2, 3), padding="SAME"), _IMAGE, _KERNEL),
    case("kernel_dilation", _convolve(rhs_dilation=(2, 3)), _IMAGE, _KERNEL),
    case("image_dilation", _convolve(lhs_dilation=(2, 3), padding=((1, 1), (0, 2))), _IMAGE, _KERNEL),
    case("groups", _convolve(feature_group_count=3), _IMAGE, _data.normal(6, 1, 3, 2)),
    case("channels_last", lambda x, k: _convolve(dimension_numbers=_CHANNELS_LAST)(x, k), _data.normal(2, 6, 5, 3), _data.normal(3, 2, 3, 4)),
    case("float32", _convolve(), _IMAGE.astype("float32"), _KERNEL.astype("float32"), rtol=1e-4),
    case("one_dimension", lambda x, k: lax.conv_general_dilated(x, k, (1,), "SAME"), _data.normal(2, 3, 17), _data.normal(5, 3, 4)),
    case("large", _convolve(padding="SAME"), _data.normal(1, 3, 12, 13), _data.normal(8, 3, 3, 3)),
    case("unit_kernel", _convolve(), _IMAGE, _data.normal(4, 3, 1, 1)),
    case("numpy_convolve", lambda x, k: (jnp.convolve(x, k), jnp.convolve(x, k, "same"), jnp.convolve(x, k, "valid"), jnp.correlate(x, k)), _X, _K),
    case("gradients", lambda x, k: jax.grad(lambda x, k: jnp.sum(jnp.sin(_convolve(padding="SAME")(x, k))), (0, 1))(x, k), _IMAGE, _KERNEL),
    *(case(f"pooling_{d}", _windows((2, 3), (1, 1), "VALID"), _BIG.astype(d)) for d in FLOATS),
    case("pooling_strides", _windows((2, 3), (2, 3), "SAME"), _BIG),
    case("pooling_small", _windows((2,), (2,), "VALID"), _X),
    case("pooling_padded", _windows((3, 2), (2, 1), ((2, 1), (0, 1))), _BIG),
    case("pooling_dilated", _windows((3, 2), (1, 1), "VALID", window_dilation=(2, 3)), _BIG),
    case("pooling_base_dilated", _windows((3, 2), (1, 1), "VALID", base_dilation=(2, 1)), _BIG),
    case("pooling_integers", lambda x: (lax.reduce_window(x, np.int32(-(2**31)), lax.max, (3,), (2,), "SAME"), lax.reduce_window(x, np.int32(0), lax.add, (3,), (2,), "SAME")), _data.whole_range("int32", 12)),
    case("pooling_nan", _windows((2,), (1,), "SAME"), np.array([1.0, np.nan, 2.0, -np.inf, 3.0])),
    case("pooling tangent", lambda x, t: jax.jvp(lambda x: _windows((2, 3), (1, 2), "SAME")(x), (x,), (t,)), _BIG, _data.normal(*_BIG.shape)),
    case("pooling cotangent", lambda x: jax.grad(lambda x: sum(jnp.sum(y**2) for y in jax.tree.leaves(_windows((2, 3), (1, 2), "SAME")(x))))(x), _BIG),
    case("pooling cotangent padded", lambda x: jax.grad(lambda x: jnp.sum(lax.reduce_window(x, jnp.inf, lax.min, (3, 2), (2, 1), ((2, 1), (0, 1))) ** 2))(x), _BIG),
    case("pooling_whole", _windows((9,), (1,), "VALID"), _X),
    case("moving_average", lambda x: lax.reduce_window(x, 0.0, lax.add, (4,), (1,), "VALID") / 4, _X),
)  # fmt: skip
