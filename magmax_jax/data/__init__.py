"""Data sets, their published facts, batches on the host and preprocessing on the device."""

from typing import TYPE_CHECKING

from magmax_jax.packages import lazy_names

if TYPE_CHECKING:
    from magmax_jax.data.any_source import as_source
    from magmax_jax.data.data_set import DataSet, FromTfds
    from magmax_jax.data.load import load_source
    from magmax_jax.data.pipeline.loader import Batch, eval_batches, num_batches, train_batches
    from magmax_jax.data.published import order, prompt_names, templates
    from magmax_jax.data.seeded_split import SeededSplit
    from magmax_jax.data.source import Source, Split
    from magmax_jax.inputs.preprocessing import Preprocessing, Views

_HOMES = {
    "Batch": "pipeline.loader",
    "DataSet": "data_set",
    "FromTfds": "data_set",
    "Preprocessing": ".inputs.preprocessing",
    "SeededSplit": "seeded_split",
    "Source": "source",
    "Split": "source",
    "Views": ".inputs.preprocessing",
    "as_source": "any_source",
    "eval_batches": "pipeline.loader",
    "load_source": "load",
    "num_batches": "pipeline.loader",
    "order": "published",
    "prompt_names": "published",
    "templates": "published",
    "train_batches": "pipeline.loader",
}
"""Public name -> the module that defines it; an extra dot leads to another package."""
__all__ = [
    "Batch",
    "DataSet",
    "FromTfds",
    "Preprocessing",
    "SeededSplit",
    "Source",
    "Split",
    "Views",
    "as_source",
    "eval_batches",
    "load_source",
    "num_batches",
    "order",
    "prompt_names",
    "templates",
    "train_batches",
]


__getattr__ = lazy_names(__name__, _HOMES)
"""Lazy imports: listing data sets and their facts imports no JAX, Grain or TFDS."""


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
