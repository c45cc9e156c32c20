"""What `tasks/` keeps for each task: theta_t, or its quantised task vector; and v_t."""

from collections.abc import Mapping
from typing import Any

import jax

from magmax_jax.merging import apply_task_vector, task_vector
from magmax_jax.merging.quantised import dequantise, quantise, quantised_shapes
from magmax_jax.merging.task_vectors import PyTree, tree_bytes
from magmax_jax.runs.merge_specs import Merge
from magmax_jax.runs.model_ref import FINETUNED, ModelRef
from magmax_jax.training import Params

TAU, BITS = "task_vector", "task_bits"
"""The name of a quantised task's tree, and of its number of bits in the note."""
MOMENTS = "second_moments"
"""The name of the tree of Adam's second moments, kept if a merge of the run needs them, and of the
field in the note that says so."""


def to_keep(
    theta: Params, theta_0: Params, bits: int | None, moments: Params | None = None
) -> tuple[dict[str, PyTree], dict[str, Any]]:
    """The trees of theta_t and their note, as `Checkpoints.save` takes them.

    Each task vector is quantised on its own, so one can be read without those before it.

    Args:
      bits: `checkpoint.task_bits`.
      moments: always kept in float32, as they span many orders of magnitude.
    """
    trees: dict[str, PyTree] = {FINETUNED: theta}
    note: dict[str, Any] = {}
    if bits is not None:
        trees, note = {TAU: quantise(_task_vector(theta, theta_0), bits)}, {BITS: bits}
    if moments is not None:
        trees[MOMENTS], note[MOMENTS] = moments, True
    return trees, note


def kept_shapes(theta_0: Params, note: dict[str, Any]) -> dict[str, PyTree]:
    """The model's trees as `jax.ShapeDtypeStruct`s, according to the checkpoint's note."""
    theta_0 = jax.eval_shape(lambda tree: tree, theta_0)
    if BITS not in note:
        return {FINETUNED: theta_0}
    tau = jax.eval_shape(task_vector, theta_0, theta_0)
    return {TAU: quantised_shapes(tau, note[BITS])}


def kept_model(trees: dict[str, PyTree], theta_0: Params) -> Params:
    """theta_t from the trees; if they are quantised, theta_0 plus the decoded task vector."""
    if FINETUNED in trees:
        return trees[FINETUNED]
    return _apply(theta_0, dequantise(trees[TAU]))


def kept_bytes(theta_0: Params, bits: int | None, moments: bool) -> int:
    """Bytes of one task, with or without second moments."""
    model = tree_bytes(kept_shapes(theta_0, {} if bits is None else {BITS: bits}))
    return model + (tree_bytes(theta_0) if moments else 0)


def kept_note(bits: int | None, ref: ModelRef, merges: Mapping[str, Merge]) -> str | None:
    """A note if a run's model is computed from quantised task vectors; None for all others.

    Args:
      bits: the run's `checkpoint.task_bits`.
    """
    collected = ref.is_merge and not merges[ref.rule].rule.streaming
    if bits is None or not (collected or ref.task is not None):
        return None
    return f"{ref} is made of task vectors that the run keeps in {bits} bits"


_task_vector = jax.jit(task_vector)
_apply = jax.jit(apply_task_vector)
