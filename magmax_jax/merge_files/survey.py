"""Passes over whole task vectors before a merge: numbers that no single tensor can tell.

A rule that needs one takes it as an option when it is fed piece by piece; here is who needs what.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from magmax_jax.errors import UserError
from magmax_jax.io.safetensors.reader import Reader, TensorFiles
from magmax_jax.merge_files.execute import read_task_vectors, update_compiled
from magmax_jax.merge_files.stream import chunk_length, stream
from magmax_jax.merging import count_at_least, kth_magnitudes_counted, rules, task_vector

SAMPLES, SAMPLE_LENGTH, SAMPLE_STRIDE = 256, 1 << 12, 1 << 4
"""A sample: about so many places, so many entries at each, one taken in so many."""
ELEMENTWISE = {
    "max_magnitude",
    "min_magnitude",
    "average",
    "task_arithmetic",
    "weighted_average",
    "ema",
    "consensus",
}


def survey(
    name: str,
    options: dict[str, Any],
    pretrained: TensorFiles,
    models: Sequence[TensorFiles],
    names: Sequence[str],
) -> dict[str, Any]:
    """The further options that the rule `name` needs to be fed piece by piece, {} for most.

    Args:
      names: the merged tensors.

    Raises:
      UserError: an input is not finite, or a file became shorter.
    """
    defaults = rules.options(name)
    chosen = {key: options.get(key, default) for key, default in defaults.items()}
    with Reader() as reader:
        if name in ("ties", "magnitude_prune") and chosen["threshold"] == "global":
            size = sum(pretrained.tensors[n].size for n in names)
            rank = rules.global_rank(size, chosen["density"], chosen["entries"])
            thresholds = _thresholds(pretrained, models, names, size, rank, reader)
            if name == "magnitude_prune":
                return {"thresholds": thresholds}
            majority = _majority(pretrained, models, names, thresholds, chosen["elect"], reader)
            return {"thresholds": thresholds, "majority": majority}
        if name == "opcm":
            return {"rescale": _rescale(options, pretrained, models, names, reader)}
    return {}


def _thresholds(pretrained, models, names, size: int, rank: int, reader) -> list[float]:
    """The magnitude of that rank of every task vector, all of them in the same passes."""
    sources = [pretrained, *models]

    def count(pivots: jax.Array) -> np.ndarray:
        total = np.zeros(pivots.shape, np.int64)
        # A chunk's padding is zero, which is below every pivot.
        for chunk in stream(names, sources, reader, chunk_length(len(sources))):
            total += np.asarray(_count(pivots, *chunk.arrays))
        return total

    samples: list[list[np.ndarray]] = [[] for _ in models]
    every = max(1, size // (SAMPLES * SAMPLE_LENGTH))
    for chunk in stream(names, sources, reader, SAMPLE_LENGTH, every):
        some = slice(0, chunk.count, SAMPLE_STRIDE)
        theta_0, *thetas = (array[some].astype(np.float32) for array in chunk.arrays)
        for sample, theta in zip(samples, thetas, strict=True):
            sample.append(theta - theta_0)
    found = kth_magnitudes_counted(count, size, rank, [np.concatenate(s) for s in samples])
    return found.tolist()


@jax.jit
def _count(pivots: jax.Array, theta_0: jax.Array, *thetas: jax.Array) -> jax.Array:
    """How many entries of each task vector reach each of its pivots: int32 (t, p)."""
    taus = _task_vectors(theta_0, thetas)
    return jnp.stack([count_at_least(tau, own) for tau, own in zip(taus, pivots, strict=True)])


def _majority(pretrained, models, names, thresholds, elect, reader) -> int:
    """The sign that most entries elect, over all tensors: it decides those that cancel exactly."""
    sources, least = [pretrained, *models], jnp.array(thresholds, jnp.float32)
    balance = 0
    for chunk in stream(names, sources, reader, chunk_length(len(sources))):
        # A chunk's padding is zero and elects no sign.
        balance += int(_balance(elect, least, *chunk.arrays))
    return (balance > 0) - (balance < 0)


@partial(jax.jit, static_argnums=0)
def _balance(elect, least, theta_0: jax.Array, *thetas: jax.Array) -> jax.Array:
    return rules.sign_balance(_task_vectors(theta_0, thetas), least, elect)


def _task_vectors(theta_0: jax.Array, thetas: Sequence[jax.Array]) -> list[jax.Array]:
    theta_0 = theta_0.astype(jnp.float32)
    return [task_vector(theta.astype(jnp.float32), theta_0) for theta in thetas]


def _rescale(options, pretrained, models, names, reader) -> float:
    """opcm's factor, which its merged norm decides: the projections are computed twice for it."""
    rule = rules.named("opcm", **options)
    nameless = is_nameless("opcm", options)
    update = partial(update_compiled, rule) if nameless else rule.update
    tasks: list[list[jax.Array]] = [[] for _ in models]
    merged = []
    for name in names:
        theta_0, taus = read_task_vectors(pretrained, models, name, reader, nameless)
        (key,) = theta_0
        state = rule.init(theta_0)
        for norms, tau in zip(tasks, taus, strict=True):
            norms.append(rules.squared_norm(tau[key]))
            state = update(state, tau)
        merged.append(rules.squared_norm(state.tau[key]))
    return float(rules.opcm_rescale(tasks, merged))


def is_elementwise(name: str, options: dict[str, Any]) -> bool:
    """Whether the rule treats every entry alike, once it knows what `survey` finds."""
    if name in ("ties", "magnitude_prune"):
        default = rules.options(name)["threshold"]
        return options.get("threshold", default) == "global"
    return name in ELEMENTWISE


def is_nameless(name: str, options: dict[str, Any]) -> bool:
    """Whether the rule never looks at a tensor's name: it draws nothing and excepts no tensor."""
    return "seed" not in rules.options(name) and not options.get("averaged")


def check_state_possible(name: str, options: dict[str, Any]) -> None:
    """Raises a UserError for rules whose state is not that of its tensors one by one."""
    threshold = options.get("threshold", rules.options(name).get("threshold"))
    if name == "opcm" or (name == "magnitude_prune" and threshold == "global"):
        raise UserError(
            f"{name} weighs whole task vectors against each other, which a state file cannot keep: "
            "merge all models at once, without --state"
        )
