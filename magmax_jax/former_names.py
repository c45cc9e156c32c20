"""Modules that scripts imported, under the names that they had in magmax_jax 0.1.

Each former name imports a module that finds its attributes where they are now, with a
DeprecationWarning that names the new module.
"""

import importlib
import sys
import warnings
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

HOMES: dict[str, tuple[str, ...]] = {
    "analysis.alignment": ("analysis.cka", "analysis.signs"),
    "analysis.similarity": ("analysis.cosine",),
    "checkpoints": ("runs.checkpoints",),
    "data.caching": ("data.pipeline.memory_cache",),
    "data.columns": ("data.readers.label_cache",),
    "data.decoding": ("data.pipeline.decode", "inputs.decode"),
    "data.fitting": ("inputs.host_resize",),
    "data.folders": ("data.readers.folder",),
    "data.joining": ("data.concat",),
    "data.loader": ("data.pipeline.loader",),
    "data.preprocessing": ("inputs.preprocessing",),
    "data.records": ("data.readers.tfds_records",),
    "data.sources": ("data.source", "data.load"),
    "data.splits": ("data.seeded_split",),
    "experiment": ("runs.train",),
    "measures": ("evaluation.metrics", "evaluation.history"),
    "merges": ("runs.merge_specs",),
    "merging.ranking": ("merging.numerics.ranking",),
    "merging.reductions": ("merging.numerics.reductions",),
    "merging.replication": ("merging.numerics.replication",),
    "merging.rules.angles": ("merging.rules.geometric",),
    "merging.rules.drawn": ("merging.rules.stochastic",),
    "merging.rules.signs": ("merging.rules.sign_consensus",),
    "merging.rules.sparse": ("merging.rules.magnitude",),
    "merging.selection": ("merging.numerics.selection",),
    "models.activations": ("models.layers.activations",),
    "models.attention": ("models.layers.attention",),
    "models.config": ("models.clip.config", "models.layers.transformer"),
    "models.foreign": ("models.clip.other_formats",),
    "models.positions": ("models.layers.positions",),
    "models.transformer": ("models.layers.transformer",),
    "results": ("runs.directory", "evaluation.rows", "runs.model_ref"),
    "scenarios.building": ("scenarios.build",),
    "scenarios.members": ("scenarios.datasets_list",),
    "sweep": ("runs.sweep", "evaluation.scales"),
}
"""Former module -> the modules that have its names now, within magmax_jax.

Not those called like something public, `export` and `training.fine_tune`: an imported module
becomes an attribute of its package, in the place of that."""

_ROOT = __package__ or "magmax_jax"


class _Former:
    """Finds what the ordinary search does not: modules of `HOMES`.

    A finder and a loader as in `importlib.abc`, which takes longer to import than all of this.
    """

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        root, _, name = fullname.partition(".")
        ours = root == _ROOT and name in HOMES
        return ModuleSpec(fullname, self) if ours else None  # type: ignore[arg-type]

    def create_module(self, spec: ModuleSpec) -> None:
        """The ordinary, empty module."""

    def exec_module(self, module: ModuleType) -> None:
        homes = HOMES[module.__name__.removeprefix(f"{_ROOT}.")]

        def find(name: str) -> Any:
            if name == "__all__":  # of `from MODULE import *`, which takes nothing without it
                return [each for home in homes for each in vars(_home(home)) if each[:1] != "_"]
            if not name.startswith("__"):
                for home in homes:
                    now = _home(home)
                    if hasattr(now, name):
                        warnings.warn(
                            f"{module.__name__}.{name} is now {now.__name__}.{name}: import it "
                            "from there",
                            DeprecationWarning,
                            stacklevel=2,
                        )
                        return getattr(now, name)
            raise AttributeError(f"module {module.__name__!r} has no attribute {name!r}")

        module.__getattr__ = find  # type: ignore[method-assign]


def _home(name: str) -> ModuleType:
    return importlib.import_module(f"{_ROOT}.{name}")


def install() -> None:
    """Makes the former names importable; they are searched after everything else."""
    sys.meta_path.append(_Former())
