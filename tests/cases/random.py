"""Random keys and numbers: bit for bit JAX's."""

# ruff: noqa: E501 - a case is one line

import jax
import jax.numpy as jnp
import numpy as np
from jax import random

from tests.cases.case import TENSOR, Data, case

_data = Data(11)
_SEED = np.array(12)
_RAW = np.array([3, 4000000000], "uint32")

CASES = (
    case("key_data", lambda s: (random.key_data(random.key(s)), random.PRNGKey(s + 1)), _SEED),
    case("negative_seed", lambda s: random.key_data(random.key(s)), np.array(-5)),
    case("split", lambda k: (random.split(k), random.split(k, 3), random.split(k, (2, 2))), _RAW),
    case("fold_in", lambda k, i: random.fold_in(k, i), _RAW, np.array(7, "uint32")),
    case("fold_in_constant", lambda k: random.fold_in(k, 5), _RAW),
    *(case(f"bits_{d}", lambda k, d=d: (random.bits(k, (3,), d), random.bits(k, (2, 3), d)), _RAW) for d in ("uint8", "uint16", "uint32", "uint64")),
    *(case(f"uniform_{d}", lambda k, d=d: random.uniform(k, (3, 4), d, -1.0, 2.0), _RAW, rtol=1e-15 if d == "float64" else 1e-6) for d in ("float32", "float64")),
    case("uniform_large", lambda k: random.uniform(k, (37, 11)), _RAW, kernels=TENSOR),
    case("normal", lambda k: random.normal(k, (4, 3)), _RAW),
    case("normal_float32", lambda k: random.normal(k, (9,), "float32"), _RAW),
    case("normal_large", lambda k: random.normal(k, (20, 9)), _RAW, kernels=TENSOR),
    case("randint", lambda k: (random.randint(k, (4,), -3, 40), random.randint(k, (3,), 0, 100, "int8")), _RAW),
    case("bernoulli", lambda k: random.bernoulli(k, 0.3, (6,)), _RAW),
    case("exponential", lambda k: random.exponential(k, (6,)), _RAW),
    case("multivariate", lambda k: random.normal(k, (6,)) @ jnp.tri(6), _RAW),
    case("categorical", lambda k, x: random.categorical(k, x), _RAW, _data.normal(6)),
    case("permutation", lambda k: random.permutation(k, 9), _RAW),
    case("choice", lambda k, x: random.choice(k, x, (4,)), _RAW, _data.normal(6)),
    case("constant_key", lambda x: x + random.normal(random.key(0), (4,)), _data.normal(4)),
    case("vmapped_keys", lambda k: jax.vmap(lambda k: random.uniform(k, (3,)))(random.split(k, 4)), _RAW),
    case("typed_keys", lambda s: [random.uniform(k, (2,)) for k in random.split(random.key(s), 3)], _SEED),
    case("key_of_split", lambda s: random.uniform(random.split(random.key(s), 3)[1], (2,)), _SEED),
    case("key_at_index", lambda s, i: random.uniform(random.split(random.key(s), 3)[i], (2,)), _SEED, np.array(2)),
    case("keys_moved", lambda s: random.key_data(jnp.stack([random.key(s), random.key(s + 1)])[::-1].reshape(2, 1).T), _SEED),
    case("key_chosen", lambda s, b: random.key_data(jnp.where(b, random.key(s), random.key(7))), _SEED, np.array(True)),
    case("in_scan", lambda k: jax.lax.scan(lambda k, _: (random.split(k)[0], random.normal(random.split(k)[1], (2,))), k, None, length=3), _RAW),
    case("scan_over_keys", lambda k: jax.lax.map(lambda k: random.uniform(k), random.split(random.wrap_key_data(k), 4)), _RAW),
    case("empty", lambda k: random.uniform(k, (0, 3)), _RAW),
)  # fmt: skip
