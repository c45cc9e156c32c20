"""Passes over whole task vectors before a merge: numbers that no single tensor can tell.

A rule that needs one takes it as an option when it is fed piece by piece; here is who needs what.
"""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from magmax_jax.errors import UserError
from magmax_jax.files.chunks import chunk_length, stream
from magmax_jax.files.merge import read_task_vectors, update_compiled
from magmax_jax.merging import kth_magnitude_streamed, rules
from magmax_jax.storage.tensors import Reader, TensorFiles

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
            rank = rules.global_rank(
                sum(pretrained.tensors[n].size for n in names), chosen["density"], chosen["entries"]
            )
            passes = [partial(_taus, pretrained, [model], names, reader) for model in models]
            thresholds = [float(kth_magnitude_streamed(each, rank)) for each in passes]
            if name == "magnitude_prune":
                return {"thresholds": thresholds}
            majority = _majority(pretrained, models, names, thresholds, chosen["elect"], reader)
            return {"thresholds": thresholds, "majority": majority}
        if name == "opcm":
            return {"rescale": _rescale(options, pretrained, models, names, reader)}
    return {}


def _taus(pretrained, models, names, reader) -> Iterator[Any]:
    """Every chunk of the task vectors: one array, or a list where there are several models."""
    sources = [pretrained, *models]
    for chunk in stream(names, sources, reader, chunk_length(len(sources))):
        theta_0, *thetas = (array[: chunk.count] for array in chunk.arrays)
        taus = jax.block_until_ready(_differences(theta_0, *thetas))
        yield taus if len(models) > 1 else taus[0]


@jax.jit
def _differences(theta_0: jax.Array, *thetas: jax.Array) -> list[jax.Array]:
    theta_0 = theta_0.astype(jnp.float32)
    return [theta.astype(jnp.float32) - theta_0 for theta in thetas]


def _majority(pretrained, models, names, thresholds, elect, reader) -> int:
    """The sign that most entries elect, over all tensors: it decides those that cancel exactly."""
    least = jnp.array(thresholds, jnp.float32)
    balance = 0
    for taus in _taus(pretrained, models, names, reader):
        several = taus if isinstance(taus, list) else [taus]
        balance += int(rules.sign_balance(several, least, elect))
    return (balance > 0) - (balance < 0)


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
