"""The programs of a run over a mesh of devices, compiled; and one process that times a step on it.

Compiling takes shapes alone: no parameter is allocated, so programs for more devices, or for
others, than are here can be read.
"""

import functools
import inspect
import os
import time
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.experimental import topologies
from jax.sharding import NamedSharding

from benchmarks.collectives import collectives
from benchmarks.limits import in_place
from benchmarks.shapes import SIZES
from benchmarks.turns import Facts, Prepared, serve
from benchmarks.workloads import (
    CLASSES,
    abstract_tower,
    images,
    objective,
    scenario,
    training,
)
from magmax_jax.config import ExperimentConfig, MeshConfig, TrainConfig
from magmax_jax.data import Preprocessing
from magmax_jax.evaluation.evaluator import Counts, make_evaluate
from magmax_jax.merging import fold, rules
from magmax_jax.sharding import BATCH, WHOLE, Layout, build_layout
from magmax_jax.training import make_trainer

TASKS = 10
"""Of the scenario that is evaluated, whose classes they share out."""

PyTree = Any


def mesh_layout(
    data: int, fsdp: int, batch_size: int, devices: Sequence[jax.Device] = ()
) -> Layout:
    """The product's layout over the first data x fsdp devices.

    Args:
      batch_size: of all devices together.
      devices: to take instead of this process's, as those of a mere topology.

    Raises:
      UserError: there are fewer devices, or a batch does not divide among them.
    """
    if devices:
        grid = np.array(devices[: data * fsdp]).reshape(data, fsdp)
        return Layout(jax.sharding.Mesh(grid, ("data", "fsdp")))
    mesh, train = MeshConfig(data, fsdp), TrainConfig(batch_size=batch_size)
    return build_layout(ExperimentConfig(mesh=mesh, train=train, eval_batch_size=batch_size))


def train_step(
    size: str, dtype: str, batch_size: int, layout: Layout, accumulate: int = 1
) -> jax.stages.Lowered:
    """The product's training step, from shapes; `batch_size` is of all devices together."""
    graphdef, theta = _placed_tower(size, dtype, layout)
    model = SIZES[size].model
    side = model.vision.image_size
    config = TrainConfig(batch_size=batch_size, accumulate=accumulate)
    trainer = make_trainer(graphdef, Preprocessing(side), config, layout=layout)
    state = layout.shapes(jax.eval_shape(trainer.init, theta))

    whole = _placed(jax.eval_shape(lambda: objective(model.projection)), layout, WHOLE)
    return trainer.step.lower(state, _abstract_batch(batch_size, side, layout), whole)


def eval_step(size: str, dtype: str, batch_size: int, layout: Layout) -> jax.stages.Lowered:
    """What evaluation does with a batch: `TASKS` tasks that share out `CLASSES` classes."""
    graphdef, theta = _placed_tower(size, dtype, layout)
    model = SIZES[size].model
    nothing = np.zeros((CLASSES, 1, 1, 3), np.uint8)
    labels = np.arange(CLASSES, dtype=np.int32)
    tested = scenario(nothing, labels, np.split(labels, TASKS))
    evaluate = make_evaluate(
        graphdef, Preprocessing(model.vision.image_size), jnp.zeros((model.projection, CLASSES)),
        tested, layout,
    )  # fmt: skip
    # The jitted step is the closure's own; nobody else has a use for it.
    inside = inspect.getclosurevars(evaluate).nonlocals
    counts = _placed(Counts.zeros(tested), layout, WHOLE)
    batch = _abstract_batch(batch_size, model.vision.image_size, layout)
    pixels = _placed(jax.ShapeDtypeStruct(batch.image.shape, jnp.float32), layout, BATCH)
    return inside["eval_step"].lower(theta, counts, pixels, batch, inside["facts"])


def fold_step(size: str, layout: Layout) -> jax.stages.Lowered:
    """Folding one more model into max_magnitude's state."""
    _, theta = _placed_tower(size, "float32", layout)
    rule = rules.max_magnitude()
    state = layout.shapes(jax.eval_shape(rule.init, theta))
    return jax.jit(functools.partial(fold, rule)).lower(state, theta, theta)


def _placed_tower(size: str, dtype: str, layout: Layout) -> tuple[nnx.GraphDef, PyTree]:
    graphdef, theta = abstract_tower(SIZES[size].model, dtype, whole=layout.whole)
    return graphdef, layout.shapes(theta)


def _abstract_batch(batch_size: int, side: int, layout: Layout) -> PyTree:
    one = images(1, side)
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct((batch_size, *x.shape[1:]), x.dtype), one)
    return _placed(shapes, layout, BATCH)


def _placed(tree: PyTree, layout: Layout, spec: jax.sharding.PartitionSpec) -> PyTree:
    sharding = NamedSharding(layout.mesh, spec)
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), tree)


def _read(lowered: jax.stages.Lowered) -> Facts:
    """Of a program: its collectives, how long it took to compile, and what memory it plans; or why
    it cannot be compiled, as for want of memory."""
    start = time.perf_counter()
    try:
        compiled = lowered.compile()
    except jax.errors.JaxRuntimeError as error:
        return {"failure": str(error).splitlines()[0]}
    memory = compiled.memory_analysis()
    return {
        "collectives": [asdict(one) for one in collectives(compiled.as_text())],
        "compiling": time.perf_counter() - start,
        "bytes": memory.argument_size_in_bytes + memory.temp_size_in_bytes,
    }


def _devices(topology: str | None) -> Sequence[jax.Device]:
    """Those of a topology that is not here, as v5e:2x4, for whose compiler libtpu is needed."""
    if topology is None:
        return ()
    os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")  # there is no TPU here to ask about
    return topologies.get_topology_desc(platform="tpu", topology_name=topology).devices


def read_programs(settings: Facts, programs: Sequence[Facts]) -> list[Facts]:
    """Compiles each and reads it.

    Args:
      settings: data, fsdp, and topology or None.
      programs: name (training, evaluation or fold), size, dtype, batch_size of one device, and
        accumulate, the parts of a batch, where there are several.
    """
    data, fsdp = settings["data"], settings["fsdp"]
    devices, read = _devices(settings.get("topology")), []
    for program in programs:
        size, dtype, b = program["size"], program["dtype"], program["batch_size"] * data * fsdp
        layout = mesh_layout(data, fsdp, b, devices)
        if program["name"] == "training":
            lowered = train_step(size, dtype, b, layout, program.get("accumulate", 1))
        elif program["name"] == "evaluation":
            lowered = eval_step(size, dtype, b, layout)
        else:
            lowered = fold_step(size, layout)
        read.append(program | {"compiler": _device(layout).device_kind} | _read(lowered))
    return read


def _device(layout: Layout) -> jax.Device:
    return layout.mesh.devices.flat[0]


def _prepare(settings: Facts) -> Prepared:
    """Reads `settings["programs"]`, or else times a step.

    `settings`: those of `read_programs`; or data, fsdp, size, dtype and batch_size of one device.
    """
    if programs := settings.get("programs"):
        return Prepared({"programs": read_programs(settings, programs)}, lambda: None)
    data, fsdp = settings["data"], settings["fsdp"]
    batch_size = settings["batch_size"] * data * fsdp
    layout = mesh_layout(data, fsdp, batch_size)
    model = SIZES[settings["size"]].model
    trainer, theta, *rest = training(model, batch_size, settings["dtype"], layout=layout)
    step = in_place(lambda state: trainer.step(state, *rest)[0], trainer.init(theta))
    facts = {"device": _device(layout).device_kind, "platform": _device(layout).platform}
    return Prepared(facts, lambda: jax.block_until_ready(step()))


if __name__ == "__main__":
    serve(_prepare)
