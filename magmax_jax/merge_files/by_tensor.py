"""Merging tensor by tensor, or all tensors as one tree: what a rule's scope asks for."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from magmax_jax.errors import UserError
from magmax_jax.io.safetensors.reader import Reader, TensorFiles
from magmax_jax.io.safetensors.writer import DirectoryWriter, FileWriter
from magmax_jax.merge_files.plan import Plan
from magmax_jax.merging import MergeRule, apply_task_vector, fold, merged, task_vector
from magmax_jax.merging.rule import State

Tree = dict[str, jax.Array]


def by_tensor(
    plan: Plan,
    reader: Reader,
    output: DirectoryWriter,
    next_state: FileWriter | None,
    advance: Callable[[int], None],
) -> Iterator[Sequence[jax.Array]]:
    """Merges one tensor after another; yields its squared norms in the task vectors, (t,)."""
    rule = plan.rule
    update, finalize = rule.update, rule.finalize
    if not rule.reads_names:
        update = partial(_update, rule)
        # A collecting rule compiles its parts itself: as one program they would be as many as
        # tasks.
        finalize = partial(_finalize, rule) if rule.streaming else finalize
    for name in plan.merged:
        theta_0, taus = read_tensor(plan.pretrained, plan.models, name, reader, rule)
        (key,) = theta_0
        state = rule.init(theta_0)
        if plan.state:
            found, treedef = jax.tree.flatten(state)
            stored = (plan.state.tensors[f"{i}/{name}"] for i in range(len(found)))
            state = jax.tree.unflatten(treedef, [jnp.asarray(reader.whole(t)) for t in stored])
        squares = []
        for model, tau in zip(plan.models, taus, strict=True):
            state = update(state, tau)
            squares.append(jnp.sum(jnp.square(tau[key])))
            advance(model.tensors[name].nbytes)
        theta = apply_task_vector(theta_0, finalize(state), plan.scale)[key]
        output.write(name, np.asarray(theta.astype(plan.out_dtypes[name])))
        if next_state:
            for i, leaf in enumerate(jax.tree.leaves(state)):
                next_state.write(f"{i}/{name}", np.asarray(leaf))
        advance(plan.pretrained.tensors[name].nbytes)
        yield squares


def as_one_tree(
    plan: Plan,
    reader: Reader,
    output: DirectoryWriter,
    next_state: None,
    advance: Callable[[int], None],
) -> Iterator[Sequence[jax.Array]]:
    """Merges all tensors together, as `magmax_jax.merge` does; yields as `by_tensor`.

    Such a state is not that of its tensors one by one, so no file keeps it.
    """

    def whole(source: TensorFiles) -> Tree:
        tree = {name: _read(source, name, reader) for name in plan.merged}
        advance(sum(source.tensors[name].nbytes for name in plan.merged))
        return tree

    theta_0 = whole(plan.pretrained)
    state, squares = plan.rule.init(theta_0), []
    for theta in map(whole, plan.models):
        tau = task_vector(theta, theta_0)
        squares.append([jnp.sum(jnp.square(tau[name])) for name in plan.merged])
        del tau
        state = fold(plan.rule, state, theta, theta_0)
    theta = merged(plan.rule, state, theta_0, plan.scale)
    for name in plan.merged:
        output.write(name, np.asarray(theta[name].astype(plan.out_dtypes[name])))
    yield from zip(*squares, strict=True)


def read_tensor(
    pretrained: TensorFiles,
    models: Iterable[TensorFiles],
    name: str,
    reader: Reader,
    rule: MergeRule,
) -> tuple[Tree, Iterator[Tree]]:
    """One tensor of theta_0 and, read lazily, of every task vector.

    Each is a float32 tree of one leaf: under its name for a rule that reads names, else under one
    name for all, so that what is compiled for one tensor serves every other of its shape.
    """
    key = name if rule.reads_names else "tensor"
    theta_0 = {key: _read(pretrained, name, reader)}
    return theta_0, (task_vector({key: _read(m, name, reader)}, theta_0) for m in models)


@partial(jax.jit, static_argnums=0)
def _update(rule: MergeRule, state: State, tau: Tree) -> State:
    return rule.update(state, tau)


@partial(jax.jit, static_argnums=0)
def _finalize(rule: MergeRule, state: State) -> Tree:
    return rule.finalize(state)


def _read(source: TensorFiles, name: str, reader: Reader) -> jax.Array:
    tensor = jnp.asarray(reader.whole(source.tensors[name]), jnp.float32)
    if not bool(jnp.isfinite(tensor).all()):
        raise UserError(f"{source.place}: {name} is not finite: this model is broken")
    return tensor
