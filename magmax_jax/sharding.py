"""Sharding: which device holds what, which process reads what; the only file that uses meshes.

One mesh with two axes. A batch is split over both. Parameters and everything of their shape (Adam's
moments, gradients, task vectors, the states of merges) are replicated over `data` and sharded over
`fsdp`: of the stacked blocks' matrices (l, d, m), which are nearly all of a tower, each device
holds a slice, and a block's matrices are gathered when they are needed. Everything else is small
and replicated.
"""

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from magmax_jax.config import ExperimentConfig
from magmax_jax.errors import ConfigError, UserError

PyTree = Any
BATCH, WHOLE = PartitionSpec(("data", "fsdp")), PartitionSpec()


@dataclass(frozen=True)
class Layout:
    """The placement of a run's arrays, possibly on a single device of one process.

    Attributes:
      mesh: axes `data` and `fsdp`, of type Auto: the compiler propagates shardings through models
        and rules, which thus need not know about devices.
    """

    mesh: Mesh

    @property
    def is_first(self) -> bool:
        """Whether this is the process that writes and prints."""
        return jax.process_index() == 0

    def rows(self, batch_size: int) -> np.ndarray:
        """int64 (r,), ascending: the rows of each batch that this process reads."""
        slices = self._named(BATCH).addressable_devices_indices_map((batch_size,)).values()
        return np.unique(np.concatenate([np.arange(batch_size)[index] for index in slices]))

    def batch(self, batch: PyTree) -> PyTree:
        """The batch (b, ...), of which this process passes the rows that it read, (r, ...) each."""
        return jax.make_array_from_process_local_data(self._named(BATCH), batch)

    def replicate(self, tree: PyTree) -> PyTree:
        """The same arrays on every device; all processes must pass the same."""
        return jax.tree.map(lambda x: _put(x, self._named(WHOLE)), tree)

    def params(self, tree: PyTree) -> PyTree:
        """Places parameters, or trees of their shapes; does not copy those already in place.

        Python's numbers, as the state of one's own rule may hold, become arrays of JAX's dtypes.

        Raises:
          UserError: a matrix does not divide among `fsdp`.
        """
        return jax.tree.map(lambda x: _put(x, self._sharding(x)), jax.tree.map(_array, tree))

    def shapes(self, tree: PyTree) -> PyTree:
        """`params` for shapes only: `jax.ShapeDtypeStruct`s with shardings."""
        return jax.tree.map(
            lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=self._sharding(x)), tree
        )

    def constrain(self, tree: PyTree) -> PyTree:
        """`params` within a jitted function."""
        return jax.tree.map(lambda x: jax.lax.with_sharding_constraint(x, self._sharding(x)), tree)

    @property
    def whole(self) -> Callable[[PyTree], PyTree] | None:
        """Gathers one block's parameters, within a jitted function; None if they are not sharded.

        By itself, the compiler would instead move the images to the parameters' shards.
        """
        return self.constrain_whole if self.mesh.shape["fsdp"] > 1 else None

    def constrain_whole(self, tree: PyTree) -> PyTree:
        """`replicate` within a jitted function."""
        return jax.tree.map(lambda x: jax.lax.with_sharding_constraint(x, self._named(WHOLE)), tree)

    def meet(self, what: str, value: object = None) -> None:
        """Waits for all processes, and checks that they have the same `value`, by its repr.

        Raises:
          UserError: they differ in `what`.
        """
        ours = np.uint32(zlib.crc32(repr(value).encode()))
        if len(set(np.ravel(multihost_utils.process_allgather(ours)).tolist())) > 1:
            raise UserError(
                f"the processes of this run differ in {what}: start all of them with the same "
                "command, versions and files"
            )

    def smallest(self, number: int) -> int:
        """The minimum of all processes' numbers; all processes must call this."""
        if jax.process_count() == 1:
            return number
        return int(np.min(multihost_utils.process_allgather(np.int32(number))))

    def from_first(self, text: str) -> str:
        """Process 0's text, truncated to 2,000 bytes; all processes must call this."""
        if jax.process_count() == 1:
            return text
        ours = np.zeros(2_000, np.uint8)
        line = np.frombuffer(text.encode()[: ours.size], np.uint8)
        ours[: line.size] = line
        first = np.asarray(multihost_utils.broadcast_one_to_all(ours))
        return first.tobytes().rstrip(b"\0").decode(errors="ignore")

    def _named(self, spec: PartitionSpec) -> NamedSharding:
        return NamedSharding(self.mesh, spec)

    def _sharding(self, leaf: jax.Array) -> NamedSharding:
        """For (l, d, m), splits the larger of d and m that divides among `fsdp`."""
        if leaf.ndim < 3:
            return self._named(WHOLE)
        fsdp = self.mesh.shape["fsdp"]
        sides = [axis for axis in range(1, leaf.ndim) if leaf.shape[axis] % fsdp == 0]
        if not sides:
            sizes = " and ".join(map(str, leaf.shape[1:]))
            raise ConfigError(
                f"mesh.fsdp is {fsdp}, which divides no side of this model's matrices ({sizes}): "
                "choose a power of two"
            )
        split = max(sides, key=lambda axis: leaf.shape[axis])
        axes = ("fsdp" if axis == split else None for axis in range(leaf.ndim))
        return self._named(PartitionSpec(*axes))


def one_device() -> Layout:
    """Everything on this process's first device."""
    return _layout(1, 1, jax.local_devices()[:1])


def build_layout(config: ExperimentConfig) -> Layout:
    """The layout over the devices of all processes.

    Raises:
      UserError: the mesh does not fit the devices, or a batch does not divide among its devices.
    """
    data, fsdp = mesh_shape(config, jax.device_count(), jax.process_count())
    return _layout(data, fsdp, jax.devices()[: data * fsdp])


def mesh_shape(config: ExperimentConfig, devices: int, processes: int = 1) -> tuple[int, int]:
    """(data, fsdp) of a mesh over some or all `devices`, which belong to `processes`.

    Raises:
      UserError: as `build_layout`.
    """
    data, fsdp = config.mesh.data, config.mesh.fsdp
    if data == -1:
        data = max(devices // fsdp, 1)
    if devices % (data * fsdp):
        raise ConfigError(
            f"mesh.data {data} times mesh.fsdp {fsdp} does not divide the number of devices, which "
            f"is {devices}: choose others, or leave out both to use all devices"
        )
    if processes > 1 and data * fsdp != devices:
        raise ConfigError(
            f"mesh.data {data} times mesh.fsdp {fsdp} leaves out some of {devices} devices, which "
            f"{processes} processes cannot do: choose others, or leave out mesh.data"
        )
    train = config.train
    _check_divides("eval_batch_size", config.eval_batch_size, data * fsdp)
    _check_divides("train.batch_size", train.batch_size, data * fsdp, train.accumulate)
    return data, fsdp


def _check_divides(name: str, size: int, devices: int, parts: int = 1) -> None:
    step = devices * parts
    if size % step:
        below = size // step * step
        nearest = f"{below} or {below + step}" if below else f"{step}"
        among = f"{devices} devices" + (f" in {parts} parts" if parts > 1 else "")
        raise ConfigError(
            f"{name} is {size}, which does not divide among {among}: "
            f"use {nearest}, or fewer devices with mesh.data"
        )


def _array(leaf: Any) -> Any:
    if not isinstance(leaf, int | float | complex):
        return leaf
    return np.asarray(leaf, jax.dtypes.canonicalize_dtype(np.asarray(leaf).dtype))


def _put(leaf: jax.Array | np.ndarray | np.number, sharding: NamedSharding) -> jax.Array:
    """`jax.device_put`, without its check that all processes have the same leaf.

    That check would gather every process's leaf on every process.
    """
    if sharding.is_fully_addressable or not getattr(leaf, "is_fully_addressable", True):
        return jax.device_put(leaf, sharding)
    if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        data = _put(jax.random.key_data(leaf), sharding)
        return jax.random.wrap_key_data(data, impl=jax.random.key_impl(leaf))
    ours = jax.device_get(leaf)
    return jax.make_array_from_callback(ours.shape, sharding, lambda index: ours[index])


def _layout(data: int, fsdp: int, devices: list[jax.Device]) -> Layout:
    types = (AxisType.Auto, AxisType.Auto)
    return Layout(jax.make_mesh((data, fsdp), ("data", "fsdp"), types, devices=devices))
