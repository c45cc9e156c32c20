"""Merging tensor by tensor, or all tensors as one tree: what a rule's scope asks for."""

from collections.abc import Callable, Iterable, Iterator, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from magmax_jax.errors import UserError
from magmax_jax.io.safetensors.reader import Reader, TensorFiles
from magmax_jax.io.safetensors.writer import FileWriter
from magmax_jax.merge_files.groups import fed, groups
from magmax_jax.merge_files.outcome import Outcome, differences, hidden, sound
from magmax_jax.merge_files.plan import Plan
from magmax_jax.merging import MergeRule, fold, merged
from magmax_jax.merging.rule import State

Tree = dict[str, jax.Array]


def by_tensor(
    plan: Plan,
    reader: Reader,
    outcome: Outcome,
    next_state: FileWriter | None,
    advance: Callable[[int], None],
) -> Iterator[Sequence[jax.Array | float]]:
    """Merges group after group; yields its squared norms in the task vectors, (t,)."""
    for names in groups(plan):
        rule = fed(plan.rule, names)
        alone = len(names) == 1
        stored = _read(plan.pretrained, names, reader)
        _check_finite(plan.pretrained, names, stored, stored)
        theta_0 = stored[0] if alone else stored
        state = rule.init({rule.key: jnp.asarray(theta_0.astype(np.float32))})
        if plan.state:
            state = _read_state(plan.state, names, state, reader)
        squares: list[jax.Array | float] = []
        for model in plan.models:
            tau = _checked(model, names, stored, _read(model, names, reader))
            state = rule.update(state, {rule.key: jnp.asarray(tau[0] if alone else tau)})
            squares.append(
                jnp.sum(jnp.square(tau[0]))
                if alone
                else float(np.sum(np.square(tau, dtype=np.float64)))
            )
            advance(sum(model.tensors[name].nbytes for name in names))
        change = np.asarray(rule.finalize(state)[rule.key])
        outcome.apply(names, stored, change[None] if alone else change)
        if next_state:
            for i, leaf in enumerate(jax.tree.leaves(state)):
                whole = np.asarray(leaf)
                for name, part in zip(names, whole[None] if alone else whole, strict=True):
                    next_state.write(f"{i}/{name}", part)
        advance(stored.nbytes)
        yield squares


def as_one_tree(
    plan: Plan,
    reader: Reader,
    outcome: Outcome,
    next_state: None,
    advance: Callable[[int], None],
) -> Iterator[Sequence[jax.Array]]:
    """Merges all tensors together, as `magmax_jax.merge` does; yields as `by_tensor`.

    Such a state is not that of its tensors one by one, so no file keeps it.
    """
    stored = {name: _read(plan.pretrained, [name], reader)[0] for name in plan.merged}
    for name, array in stored.items():
        _check_finite(plan.pretrained, [name], array[None], array[None])
    advance(sum(array.nbytes for array in stored.values()))
    # JAX would round float64: NumPy subtracts and adds it, and the change is merged around zero.
    sources = (plan.pretrained, *plan.models)
    wide = {n for n in plan.merged if any(s.tensors[n].dtype == np.float64 for s in sources)}
    theta_0 = {
        name: jnp.zeros(array.shape) if name in wide else _unmasked(array)
        for name, array in stored.items()
    }
    state, squares = plan.rule.init(theta_0), []
    for model in plan.models:
        theta, norms = {}, []
        for name, array in stored.items():
            whole = _read(model, [name], reader)
            tau = _checked(model, [name], array[None], whole)[0]
            norms.append(jnp.sum(jnp.square(tau)))
            theta[name] = jnp.asarray(tau) if name in wide else _unmasked(whole[0])
        advance(sum(model.tensors[name].nbytes for name in plan.merged))
        squares.append(norms)
        state = fold(plan.rule, state, theta, theta_0)
        del theta
    found = merged(plan.rule, state, theta_0, plan.scale)
    for name, array in stored.items():
        value, before = np.asarray(found[name])[None], np.asarray(theta_0[name])[None]
        if name in wide:
            outcome.apply([name], array[None], value, scale=1.0)
        else:
            changed = (value != before) & ~hidden(array[None])
            outcome.put([name], array[None], value, changed)
    yield from zip(*squares, strict=True)


def read_group(
    pretrained: TensorFiles,
    models: Iterable[TensorFiles],
    names: Sequence[str],
    reader: Reader,
    rule: MergeRule,
) -> tuple[Tree, Iterator[Tree]]:
    """Tensors of one shape of theta_0 and, read lazily, of every task vector, stacked.

    Each is a float32 tree of one leaf (n, *shape): under its name for a rule that reads names, else
    under one name for all, so that what is compiled for one tensor serves every other of its shape.
    """
    key = names[0] if rule.reads_names else "tensor"
    stored = _read(pretrained, names, reader)
    _check_finite(pretrained, names, stored, stored)
    taus = (_checked(model, names, stored, _read(model, names, reader)) for model in models)
    return {key: jnp.asarray(stored.astype(np.float32))}, ({key: jnp.asarray(t)} for t in taus)


def _read(source: TensorFiles, names: Sequence[str], reader: Reader) -> np.ndarray:
    """Tensors of one shape and dtype, stacked: (n, *shape)."""
    first = source.tensors[names[0]]
    out = np.empty((len(names), *first.shape), first.dtype)
    for row, name in zip(out.reshape(len(names), first.size), names, strict=True):
        reader.into(row, source.tensors[name])
    return out


def _read_state(files: TensorFiles, names: Sequence[str], like: State, reader: Reader) -> State:
    """The state of a group, as it was kept, in the structure and shapes of `like`."""
    leaves, treedef = jax.tree.flatten(like)
    found = [
        _read(files, [f"{i}/{name}" for name in names], reader).reshape(leaf.shape)
        for i, leaf in enumerate(leaves)
    ]
    return jax.tree.unflatten(treedef, map(jnp.asarray, found))


def _checked(
    model: TensorFiles, names: Sequence[str], theta_0: np.ndarray, theta: np.ndarray
) -> np.ndarray:
    """The task vectors of a group, float32.

    Raises:
      UserError: an entry is not finite, or the difference is not.
    """
    (tau,) = differences(theta_0, [theta])
    if not np.isfinite(tau).all():
        _check_finite(model, names, theta, theta_0)
        raise UserError(
            f"{model.place}: the difference from theta_0 in {names[0]} exceeds float32: one of the "
            "two is broken"
        )
    return tau


def _check_finite(
    source: TensorFiles, names: Sequence[str], theta: np.ndarray, theta_0: np.ndarray
) -> None:
    if np.isfinite(theta).all():
        return
    for name, row, base in zip(names, theta, theta_0, strict=True):
        if not sound(row, base).all():
            raise UserError(
                f"{source.place}: {name} is not finite, so this model is broken: fetch it again, "
                f"or keep theta_0's with --exclude {name}"
            )


def _unmasked(theta: np.ndarray) -> jax.Array:
    """In float32, zero where it is -inf: there no model differs."""
    return jnp.asarray(np.where(hidden(theta), 0, theta.astype(np.float32)))
