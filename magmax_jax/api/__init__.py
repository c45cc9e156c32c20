"""Experiments from Python: the command line as functions, all also available in `magmax_jax`.

import magmax_jax as mm

rows = mm.run(mm.preset("quickstart"), "runs/quickstart")
mm.report("runs/quickstart")
mm.evaluate("runs/quickstart:max_magnitude@0.7")
mm.export("runs/quickstart", "merged", model="max_magnitude")
"""

from typing import TYPE_CHECKING

from magmax_jax.packages import lazy_names

if TYPE_CHECKING:
    from magmax_jax.api.evaluate_models import evaluate
    from magmax_jax.api.export_model import export
    from magmax_jax.api.presets import preset
    from magmax_jax.api.run_experiment import run

_HOMES = {
    "evaluate": "evaluate_models",
    "export": "export_model",
    "preset": "presets",
    "run": "run_experiment",
}
"""Public names and their modules; no module shares its name with a function."""
__all__ = ["evaluate", "export", "preset", "run"]


__getattr__ = lazy_names(__name__, _HOMES)
"""Lazy imports: `preset` imports neither JAX nor Flax."""


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
