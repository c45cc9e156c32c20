"""Refits within a run: the state of every refitted merge, and its update with one more task."""

from collections.abc import Callable, Iterable, Mapping
from functools import cached_property, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from magmax_jax.data import Batch, Preprocessing
from magmax_jax.merging.rule import leaf_name
from magmax_jax.models import LastMap
from magmax_jax.refit import Features, Refit
from magmax_jax.runs.build import RunParts
from magmax_jax.runs.merge_specs import Refitted
from magmax_jax.runs.model_ref import ModelRef
from magmax_jax.runs.progress import Progress
from magmax_jax.training import Params


class RefitState(NamedTuple):
    """The state of one refitted merge at one scale.

    Attributes:
      statistics: the refit's own state.
      fitted: the kernel and the bias of the last map, by their paths in the image tower.
    """

    statistics: Any
    fitted: dict[str, jax.Array]


RefitStates = Mapping[str, RefitState]
"""By name with the scale: `ema+lda@1`."""


def labels(refits: Mapping[str, Refitted]) -> dict[str, tuple[Refitted, float]]:
    """Every refitted merge at every scale, by its name with the scale."""
    return {
        str(ModelRef(name, scale)): (refitted, scale)
        for name, refitted in refits.items()
        for scale in refitted.scales
    }


def beginning(refits: Mapping[str, Refitted], theta_0: Params, classes: int) -> RefitStates:
    """The states before the first task; all later states have the same shapes.

    Args:
      classes: number of classes in the head.
    """
    return {
        label: _beginning(refitted, theta_0, classes)
        for label, (refitted, _) in labels(refits).items()
    }


def _beginning(refitted: Refitted, theta_0: Params, classes: int) -> RefitState:
    ends = _ends(refitted)
    fitted = {path: leaf_at(theta_0, path) for path in ends}
    return RefitState(refitted.refit.init(fitted[ends.bias].shape[0], classes), fitted)


def deployed(theta: Params, state: RefitState) -> Params:
    """A merged model with its last map replaced by the fitted one."""
    return _replaced(theta, state.fitted)


def fitted_at(name: str, states: RefitStates) -> Callable[[float], RefitState]:
    """A refitted merge's state by its scale.

    Args:
      name: of the merge, without a scale.
    """
    return lambda scale: states[str(ModelRef(name, scale))]


def refitted_at(
    plain: Callable[[float], Params], state_at: Callable[[float], RefitState]
) -> Callable[[float], Params]:
    """Maps a scale to the refitted merge, from the plain merge and the refit's state there."""
    return lambda scale: deployed(plain(scale), state_at(scale))


class Refitter:
    """Fits the last maps of merged models to the images of one task after another.

    Args:
      parts: of the run.
      progress: shows the passes over the images.
      watched: wraps their batches, e.g. `recorder.until`.
    """

    def __init__(
        self,
        parts: RunParts,
        progress: Progress,
        watched: Callable[[Iterable], Iterable] = iter,
    ):
        self._parts, self._progress, self._watched = parts, progress, watched
        self._observes: dict[Refit, Callable[[Any, Features], Any]] = {}

    def learn(
        self,
        task: int,
        label: str,
        refitted: Refitted,
        state: RefitState,
        before: Params | None,
        after: Params,
    ) -> RefitState:
        """The state after one more task, whose training images are read once.

        Args:
          task: its number, from 1.
          label: shown with the pass.
          before: the merged model before the task, without refits; None for the first task.
          after: the merged model after the task.
        """
        layout, ends = self._parts.layout, _ends(refitted)
        observe = self._observe(refitted.refit)
        statistics = layout.replicate(state.statistics)
        images, count = self._parts.train_images(task)
        shown = self._progress.evaluating(f"images for {label}", images, count)
        encode_new = self._encoder(after, ends)
        encode_old = None if before is None else self._encoder(before, ends)
        for batch in map(layout.batch, self._watched(shown)):
            new = encode_new(batch)
            old = new if encode_old is None else encode_old(batch)
            statistics = observe(statistics, Features(old, new, batch.label, batch.mask))
        # On the host in 64 bits: one small system to solve, identically in every process.
        statistics = refitted.refit.learn(jax.device_get(statistics))
        kernel, shift = refitted.refit.fit(statistics, jax.device_get(self._parts.head))
        bias = jax.device_get(leaf_at(after, ends.bias)) + shift
        fitted = {ends.kernel: kernel, ends.bias: bias}
        return layout.replicate(RefitState(statistics, fitted))

    def _encoder(self, params: Params, ends: LastMap) -> Callable[[Batch[jax.Array]], jax.Array]:
        """Maps a batch to the inputs of the last map, float32 (b, d)."""
        width = leaf_at(params, ends.bias).shape[0]
        # The tower computes them, with its last map replaced by the identity.
        whole = _replaced(params, {ends.kernel: jnp.eye(width)})
        return partial(self._encode, self._parts.layout.params(whole))

    def _observe(self, refit: Refit) -> Callable[[Any, Features], Any]:
        """The refit's `observe`, compiled once per run."""
        if refit not in self._observes:
            whole = self._parts.layout.constrain_whole
            self._observes[refit] = jax.jit(
                lambda state, features: whole(refit.observe(state, features))
            )
        return self._observes[refit]

    @cached_property
    def _encode(self) -> Callable[[Params, Batch[jax.Array]], jax.Array]:
        return jax.jit(partial(_features, self._parts.tower, self._parts.preprocessing))


def _features(
    tower: nnx.GraphDef, preprocessing: Preprocessing, params: Params, batch: Batch[jax.Array]
) -> jax.Array:
    pixels = preprocessing.evaluate(batch.image, batch.box)
    return nnx.merge(tower, params)(pixels).astype(jnp.float32)


def _ends(refitted: Refitted) -> LastMap:
    assert refitted.ends is not None, "the model's shape is known by now"
    return refitted.ends


def leaf_at(params: Params, path: str) -> jax.Array:
    """The parameter at a path such as "projection.kernel"."""
    (found,) = (leaf for name, leaf in _named(params) if name == path)
    return found


def _replaced(params: Params, values: Mapping[str, jax.Array]) -> Params:
    return jax.tree.unflatten(
        jax.tree.structure(params), [values.get(name, leaf) for name, leaf in _named(params)]
    )


def _named(params: Params) -> list[tuple[str, jax.Array]]:
    leaves = jax.tree_util.tree_leaves_with_path(params)
    return [(leaf_name(path).removesuffix(".value"), leaf) for path, leaf in leaves]
