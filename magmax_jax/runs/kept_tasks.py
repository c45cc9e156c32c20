"""What `tasks/` keeps of every theta_t: the model, or its quantised task vector; and v_t."""

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
"""The tree of a task that is quantised, and the bits in its note."""
MOMENTS = "second_moments"
"""The tree of Adam's second moments, which are kept beside the model if a merge of the run needs
them, and the field of the note that says so."""


def to_keep(
    theta: Params, theta_0: Params, bits: int | None, moments: Params | None = None
) -> tuple[dict[str, PyTree], dict[str, Any]]:
    """The trees of theta_t and their note, as `Checkpoints.save` takes them.

    Each task vector is quantised by itself, so that one can be read without those before it.

    Args:
      bits: of `checkpoint.task_bits`.
      moments: kept float32 whatever the bits, as they span many orders of magnitude.
    """
    trees: dict[str, PyTree] = {FINETUNED: theta}
    note: dict[str, Any] = {}
    if bits is not None:
        trees, note = {TAU: quantise(_task_vector(theta, theta_0), bits)}, {BITS: bits}
    if moments is not None:
        trees[MOMENTS], note[MOMENTS] = moments, True
    return trees, note


def kept_shapes(theta_0: Params, note: dict[str, Any]) -> dict[str, PyTree]:
    """The model's trees as `jax.ShapeDtypeStruct`s, by the note that lies beside them."""
    theta_0 = jax.eval_shape(lambda tree: tree, theta_0)
    if BITS not in note:
        return {FINETUNED: theta_0}
    tau = jax.eval_shape(task_vector, theta_0, theta_0)
    return {TAU: quantised_shapes(tau, note[BITS])}


def kept_model(trees: dict[str, PyTree], theta_0: Params) -> Params:
    """theta_t of the trees; where they are quantised, theta_0 and the decoded task vector."""
    if FINETUNED in trees:
        return trees[FINETUNED]
    return _apply(theta_0, dequantise(trees[TAU]))


def kept_bytes(theta_0: Params, bits: int | None, moments: bool) -> int:
    """Of one task, with or without second moments."""
    model = tree_bytes(kept_shapes(theta_0, {} if bits is None else {BITS: bits}))
    return model + (tree_bytes(theta_0) if moments else 0)


def kept_note(bits: int | None, ref: ModelRef, merges: Mapping[str, Merge]) -> str | None:
    """A sentence if a run's model is made of quantised task vectors; None for every other one.

    Args:
      bits: of the run's `checkpoint.task_bits`.
    """
    collected = ref.is_merge and not merges[ref.rule].rule.streaming
    if bits is None or not (collected or ref.task is not None):
        return None
    return f"{ref} is made of task vectors that the run keeps in {bits} bits"


_task_vector = jax.jit(task_vector)
_apply = jax.jit(apply_task_vector)
