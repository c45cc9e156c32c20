"""The paper's evidence, measured on any pytrees: magnitudes, signs, and which task supplied what.

Everything here is jitted and reads one or a few task vectors at a time. A pytree sharded on any
mesh gives the same counts, and the same sums up to rounding, without being gathered. Only
floating-point leaves are used. Streaming analyses are modules with `init`, `update` and
`finalize`: `signs` over tasks, `cka` over batches of features.
"""

from magmax_jax.analysis import cka, signs
from magmax_jax.analysis.cosine import cosines, inner_products, norm, norms
from magmax_jax.analysis.profiling import Overhead, measure
from magmax_jax.analysis.provenance import Supplied, supplied
from magmax_jax.analysis.pruning import keep, threshold
from magmax_jax.analysis.signs import KEPT, SignConflicts, sign_conflicts

__all__ = [
    "KEPT",
    "Overhead",
    "SignConflicts",
    "Supplied",
    "cka",
    "cosines",
    "inner_products",
    "keep",
    "measure",
    "norm",
    "norms",
    "sign_conflicts",
    "signs",
    "supplied",
    "threshold",
]
