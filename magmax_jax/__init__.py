"""Continual learning by model merging: MagMax for CLIP, in JAX and Flax."""

from typing import TYPE_CHECKING

from magmax_jax import former_names
from magmax_jax.packages import lazy_names
from magmax_jax.version import __version__ as __version__

if TYPE_CHECKING:
    from magmax_jax import analysis, config, registry, rules
    from magmax_jax.api import evaluate, export, preset, run
    from magmax_jax.data import Source, as_source
    from magmax_jax.errors import UserError
    from magmax_jax.merging import MergeRule, apply_task_vector, merge, task_vector
    from magmax_jax.models import CLIP
    from magmax_jax.report import report

former_names.install()

_HOMES = {
    "CLIP": "models",
    "MergeRule": "merging",
    "Source": "data",
    "UserError": "errors",
    "analysis": "",
    "apply_task_vector": "merging",
    "as_source": "data",
    "config": "",
    "evaluate": "api",
    "export": "api",
    "merge": "merging",
    "preset": "api",
    "registry": "",
    "report": "",
    "rules": "",
    "run": "api",
    "task_vector": "merging",
}
"""Public names, and the package that each comes from; "" for a package itself."""
__all__ = [
    "CLIP", "MergeRule", "Source", "UserError", "analysis", "apply_task_vector", "as_source",
    "config", "evaluate", "export", "merge", "preset", "registry", "report", "rules", "run",
    "task_vector",
]  # fmt: skip


__getattr__ = lazy_names(__name__, _HOMES)
"""Lazy imports: merging files does not import Flax, and `--help` does not import JAX."""


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
