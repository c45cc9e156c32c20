"""The type of merge rules, and the few functions that every rule is written with.

A rule is a value shaped like an optax transformation. The state of a streaming rule is a pytree of
arrays whose size does not grow with the tasks, so it can be jitted, donated, sharded and written to
disk; the state of a collecting rule is the tuple of all task vectors.

The bundled rules see one leaf at a time, identified by its path, never by its position; a rule that
needs global information about task vectors gets it from a survey. So they give the same bits on a
tree of one leaf as on the whole tree, and a model too large for memory can be merged tensor by
tensor.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np

from magmax_jax.merging.any_mesh import on_any_mesh
from magmax_jax.merging.leaf_names import LeafNames, seed_words
from magmax_jax.merging.numerics.over_tasks import EachTask, together
from magmax_jax.merging.survey import TaskVectors
from magmax_jax.merging.task_vectors import PyTree, is_merged, zeros
from magmax_jax.packages.lazy_jax import jax, jnp

State = Any
Scope = Literal["entry", "tensor", "model"]
Count: TypeAlias = "Callable[[EachTask], jax.Array]"


class Trims(NamedTuple):
    """What a collecting rule drops from every tensor of a task vector before anything else.

    Callers that find the thresholds first can then feed the rule entries, in any pieces.

    Attributes:
      rank: (entries of a tensor, task from 1) -> the rank of the smallest magnitude that is kept (1
        is the smallest of all); entries below it are dropped, entries equal to it are kept.
      rule: (number of task vectors, `TaskVectors.total` of the trimmed ones) -> the rule that
        merges task vectors whose dropped entries are zero, with the result of the whole rule. Its
        scope is "entry" and it has no survey. Functions given to `total` also see padding zeros
        that belong to no tensor.
      exact: of the entries equal to the smallest magnitude that is kept, only the first ones of the
        tensor are kept, as many as the rank says.
    """

    rank: Callable[[int, int], int]
    rule: Callable[[int, Callable[[Count], np.ndarray]], MergeRule]
    exact: bool = False


class Thins(NamedTuple):
    """Which entries of every task vector a rule keeps at random before anything else.

    An entry is kept if its draw from [0, 1) is within the bounds: that of `jax.random.uniform` for
    the whole tensor, with the `leaf_key` of the task and the tensor's name. Callers that draw the
    same can then feed the rule entries, in any pieces.

    Attributes:
      bounds: task from 1 -> the least draw that keeps an entry, and the least above it that does
        not.
      seed: of `leaf_key`.
      rescale: kept entries are multiplied by the ratio of the L1 norms before and after, one number
        per tensor, as in `rules.thinning.only`.
      rule: merges the thinned task vectors from the first on, with the result of the whole rule.
        Its scope is "entry" and it has no survey.
    """

    bounds: Callable[[int], tuple[float, float]]
    seed: int
    rescale: bool
    rule: MergeRule


class MergeRule(NamedTuple):
    """A way to merge task vectors, as pure functions, and what callers must know about it.

    Only the first five fields are required. The defaults of the others are correct for every rule
    on plain models, but slow: such a rule is fed whole trees. Fields that depend on a rule's
    options describe this value.

    Attributes:
      init: theta_0 -> state, before any task.
      update: (state, tau_t) -> state, once per task, in order.
      finalize: state -> tau, the merged task vector; the state stays usable.
      streaming: the state's size does not depend on the number of tasks.
      default_scale: the lambda published for the rule; negative for unlearning.
      scope: what the rule must see at once for its result not to change: the whole "model", one
        "tensor", or one "entry". A rule of scope "entry" may be fed flat pieces that join several
        tensors; the leaves of its state are scalars or have a tensor's shape. A rule that uses
        anything global (a threshold, a norm, a majority) has the scope "model", unless it has a
        `survey`; undeclared global dependence cannot be detected.
      reads_names: the result for a tensor depends on its name, as for rules that draw at random. If
        False, tensors of one shape share compiled code.
      survey: collects what the rule needs from whole task vectors, and returns the completed rule,
        whose `survey` is None; None if the rule needs nothing from them. `scope` is that of the
        completed rule. Callers survey before they feed a rule anything but whole models.
      needs_fisher: every model is an `Informed`.
      fewest_models: least number of models that the rule merges.
      most_models: largest number of models that it merges, None for no limit.
      per_model: the option that holds one value for each of `most_models` models, in order.
      state_options: further options, as (name, value) pairs, of a rule whose state is kept in a
        file; options that the user gives take precedence.
      trims: how a rule of scope "tensor" drops entries first, if it needs whole tensors for nothing
        else.
      thins: likewise for entries that it drops at random.
      draws: the rule uses names only to draw by their `leaf_key`, outside any `jit` of its own that
        takes trees. Then small tensors of one shape are merged together.
      decomposes: it spends its time in matrix decompositions, each of which keeps one CPU core
        busy. Then several tensors are merged at once, in threads.
      settle: what the finalize of a rule of tensors needs from all leaves' states, None if nothing.
      from_adam: the Fisher that it needs is Adam's second moments at the end of each task, so a
        run, whose training has them, can feed the rule.
      of_leaf: for a rule of tensors that reads names only to choose how to treat a leaf: (name,
        shape) -> its treatment. Leaves with the same treatment then share compiled code, and small
        ones are merged together.
      of_stack: for a collecting rule, (theta_0, a tree of all task vectors whose leaves have a
        leading axis of tasks) -> the state after all of them, for many models. None if `finalize`
        takes only what `update` returns.
    """

    init: Callable[[PyTree], State]
    update: Callable[[State, PyTree], State]
    finalize: Callable[[State], PyTree]
    streaming: bool
    default_scale: float
    scope: Scope = "model"
    reads_names: bool = True
    survey: Callable[[TaskVectors], MergeRule] | None = None
    needs_fisher: bool = False
    fewest_models: int = 1
    most_models: int | None = None
    per_model: str | None = None
    state_options: tuple[tuple[str, Any], ...] = ()
    draws: bool = False
    trims: Trims | None = None
    thins: Thins | None = None
    decomposes: bool = False
    settle: Settle | None = None
    from_adam: bool = False
    of_leaf: Callable[[str, Sequence[int]], OfLeaf] | None = None
    of_stack: Callable[[PyTree, PyTree], Stacked] | None = None

    def admits(self, number: int) -> bool:
        """Whether the rule merges this many models."""
        return self.fewest_models <= number and (
            self.most_models is None or number <= self.most_models
        )

    @property
    def admitted(self) -> str:
        """How many models the rule merges, in words: "2", "3 or more", "1 to 4"."""
        fewest, most = self.fewest_models, self.most_models
        if most is None:
            return f"{fewest} or more"
        return str(most) if fewest == most else f"{fewest} to {most}"

    def on_any_mesh(self) -> MergeRule:
        """This rule for arrays on any mesh, also outside `merge`: see `merging.any_mesh`."""
        rule = self._replace(
            init=on_any_mesh(self.init, keeps=0),
            update=on_any_mesh(self.update, like=1, keeps=1),
            finalize=on_any_mesh(self.finalize),
        )
        return self if rule == self else rule


class Settle(NamedTuple):
    """How callers that feed a rule leaf by leaf complete it between its updates and its finalize.

    A `survey` before the first update works too, but computes every state twice.

    Attributes:
      measure: for one leaf, (state, (squared norm of each task vector)) -> an array of numbers.
      complete: the numbers of every leaf, by name -> the rule whose `finalize` takes each leaf's
        state by itself, without `settle`.
    """

    measure: Callable[[Any, Sequence[jax.Array]], jax.Array]
    complete: Callable[[Mapping[str, np.ndarray]], MergeRule]


class OfLeaf(NamedTuple):
    """How a rule treats a leaf.

    Attributes:
      rule: merges this leaf as the whole rule does, and reads no names.
      taken_as: what the leaf is treated as, in words that follow a number of tensors: "as tables".
    """

    rule: MergeRule
    taken_as: str


class Counted(NamedTuple):
    """State of rules that count: a running task vector, and the number seen (int32 scalar)."""

    tau: PyTree
    count: jax.Array  # type: ignore[assignment]  # part of saved states; tuple.count is not called

    @classmethod
    def zeros(cls, pretrained: PyTree) -> Counted:
        return cls(zeros(pretrained), jnp.int32(0))


class Informed(NamedTuple):
    """A model or its task vector, with the diagonal of its Fisher: what `fisher` merges.

    `merge` and `fold` take it in place of a model, and `fisher().update` in place of a task vector.
    For `adam_weighted`, Adam's second moments take the place of the Fisher.
    """

    params: PyTree
    fisher: PyTree


def informed(rule: MergeRule, params: PyTree, fisher: PyTree) -> PyTree | Informed:
    """A model or task vector in the form the rule takes; the Fisher is dropped if not needed."""
    return Informed(params, fisher) if rule.needs_fisher else params


class Stacked(NamedTuple):
    """State of a collecting rule that holds each leaf of all task vectors in one array.

    Attributes:
      theta_0: None for a rule that does not keep it.
      taus: a tree of theta_0's structure; leaves are float32 (t, *shape).
    """

    theta_0: PyTree | None
    taus: PyTree


Collected = tuple[PyTree, ...] | Stacked
"""State of a collecting rule: the tuple of all task vectors, after theta_0 if it keeps that."""


def collecting(
    finalize: Callable[[Any], PyTree],
    default_scale: float,
    with_theta_0: bool = False,
    stacks: bool = False,
    **facts: Any,
) -> MergeRule:
    """A rule that keeps every task vector and passes the tuple of them to `finalize`.

    Args:
      with_theta_0: whether theta_0 comes before them in that tuple.
      stacks: whether `finalize` also takes a `Stacked`, as `leafwise_collected` does.
      facts: further fields of `MergeRule`.
    """

    def of_stack(pretrained: PyTree, taus: PyTree) -> Stacked:
        return Stacked(pretrained if with_theta_0 else None, taus)

    return MergeRule(
        lambda pretrained: (pretrained,) if with_theta_0 else (),
        _appended,
        finalize,
        streaming=False,
        default_scale=default_scale,
        of_stack=of_stack if stacks else None,
        **facts,
    )


_placed = on_any_mesh(lambda tau: tau, keeps=0)


def _appended(state: tuple[PyTree, ...], tau: PyTree) -> tuple[PyTree, ...]:
    return (*state, _placed(tau))


# Only the new task vector needs to be placed: with all of them, time would grow with their square.
_appended.on_any_mesh = True  # type: ignore[attr-defined]


def leafwise_collected(
    function: Callable[..., jax.Array], state: Collected, with_theta_0: bool = False
) -> PyTree:
    """`leafwise_at` over a collecting rule's state.

    Args:
      function: takes a leaf's name, theta_0's leaf if the rule keeps it, and the leaf of every task
        vector as `EachTask`.
    """
    if isinstance(state, Stacked):
        return leafwise_at(function, *([state.theta_0] if with_theta_0 else ()), state.taus)
    before = 1 if with_theta_0 else 0
    return leafwise_at(
        lambda name, *leaves: function(name, *leaves[:before], together(leaves[before:])), *state
    )


def collected(state: Collected, with_theta_0: bool = False) -> int:
    """The number of task vectors in a collecting rule's state."""
    if isinstance(state, Stacked):
        return len(jax.tree.leaves(state.taus)[0])
    return len(state) - with_theta_0


def factory(build: Callable[..., MergeRule]) -> Callable[..., MergeRule]:
    """Caches rules by their arguments, however spelled, so that equal rules compile once.

    Lists and arrays among the arguments become tuples. The rule works on any mesh.
    """
    signature = inspect.signature(build)
    cached = functools.cache(lambda *args: build(*args).on_any_mesh())

    @functools.wraps(build)
    def make(*args: Any, **kwargs: Any) -> MergeRule:
        bound = signature.bind(*args, **kwargs)
        bound.apply_defaults()
        return cached(*map(_hashable, bound.arguments.values()))

    return make


def leafwise(function: Callable[..., jax.Array], tree: PyTree, *rest: PyTree) -> PyTree:
    """`jax.tree.map` over the merged leaves; other leaves come from the first tree."""
    return jax.tree.map(
        lambda leaf, *others: function(leaf, *others) if is_merged(leaf) else leaf, tree, *rest
    )


def leafwise_at(function: Callable[..., Any], tree: PyTree, *rest: PyTree) -> PyTree:
    """`leafwise` for a function whose first argument is the leaf's name (`leaf_name`)."""
    return jax.tree_util.tree_map_with_path(
        lambda path, leaf, *others: (
            function(_key_name(path), leaf, *others) if is_merged(leaf) else leaf
        ),
        tree,
        *rest,
    )


def leaf_name(path: tuple) -> str:
    """A leaf's path joined by dots: `{"a": {"b": x}}` and `{"a.b": x}` both hold `a.b`."""
    return jax.tree_util.keystr(path, simple=True, separator=".")


def leaf_key(seed: int, task: jax.typing.ArrayLike, name: str | LeafNames) -> jax.Array:
    """The random key of one leaf of one task (counted from 1), wherever it is in its tree."""
    words = name.words(seed) if isinstance(name, LeafNames) else jnp.asarray(seed_words(seed, name))
    return jax.random.fold_in(jax.random.wrap_key_data(words, impl="threefry2x32"), task)


def leaf_keys(seed: int, tasks: int, name: str | LeafNames) -> jax.Array:
    """`leaf_key` of each of the first tasks: keys (t,)."""
    return jax.vmap(lambda task: leaf_key(seed, task, name))(jnp.arange(1, tasks + 1))


def _key_name(path: tuple) -> str | LeafNames:
    last = getattr(path[-1], "key", None) if path else None
    return last if isinstance(last, LeafNames) else leaf_name(path)


def _hashable(value: Any) -> Any:
    if isinstance(value, list) and any(isinstance(each, tuple) for each in value):
        return tuple(value)
    return tuple(np.asarray(value).tolist()) if isinstance(value, list | np.ndarray) else value
