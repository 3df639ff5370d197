"""Sorting along one axis, with passengers and several keys."""

import math
from collections.abc import Sequence

from jax import lax
from jax.extend.core import JaxprEqn

from anvil_jax.dtypes import ELEMENT_TYPES
from anvil_jax.kernels.adapter import UOp
from anvil_jax.lowering.avals import aval_dtype, aval_shape
from anvil_jax.lowering.interpreter import Lowering
from anvil_jax.lowering.registry import register
from anvil_jax.lowering.values import Pull, Value
