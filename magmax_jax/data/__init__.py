"""Data sets, their published facts, batches on the host and preprocessing on the device."""

from magmax_jax.data.load import load_source
from magmax_jax.data.pipeline.loader import Batch, eval_batches, num_batches, train_batches
from magmax_jax.data.pipeline.preprocessing import Preprocessing, Views
from magmax_jax.data.published import order, prompt_names, templates
from magmax_jax.data.source import Source

__all__ = [
    "Batch",
    "Preprocessing",
    "Source",
    "Views",
    "eval_batches",
    "load_source",
    "num_batches",
    "order",
    "prompt_names",
    "templates",
    "train_batches",
]
