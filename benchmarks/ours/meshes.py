"""A contender over a mesh of devices: one training step, or what the library's programs move.

Programs for training and folds are compiled from shapes, without allocating parameters, so programs
for more or other devices than are present can be read.
"""

import functools
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import topologies
from jax.sharding import NamedSharding

from benchmarks import workloads
from benchmarks.collectives import collectives
from benchmarks.limits import in_place
from benchmarks.serving import Facts, Prepared
from benchmarks.workloads import CLASSES, SIZES, images
from magmax_jax.config import TrainConfig
from magmax_jax.data import Preprocessing
from magmax_jax.evaluation.evaluator import make_evaluate
from magmax_jax.merging import fold, rules
from magmax_jax.sharding import BATCH, WHOLE, Layout
from magmax_jax.training import make_trainer

TASKS = 10
"""Number of tasks of the evaluated scenario, which divide its classes."""


def mesh_layout(data: int, fsdp: int, topology: str | None = None) -> Layout:
    """The library's layout over the first data x fsdp devices.

    Args:
      topology: of TPUs that need not be present, e.g. v5e:2x4; uses their compiler (libtpu).
    """
    devices = jax.devices()
    if topology:
        os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")  # there is no TPU here to query
        devices = topologies.get_topology_desc(platform="tpu", topology_name=topology).devices
    grid = np.array(devices[: data * fsdp]).reshape(data, fsdp)
    return Layout(jax.sharding.Mesh(grid, ("data", "fsdp")))


def training_program(asked: Facts, layout: Layout) -> str:
    """The text of the library's training step, from shapes.

    Args:
      asked: `size`, `dtype`, `batch_size` over all devices and, if the batch is split,
        `accumulate`.
    """
    model, b = SIZES[asked["size"]], asked["batch_size"]
    side = model.vision.image_size
    graphdef, theta = workloads.abstract_tower(model, asked["dtype"], whole=layout.whole)
    config = TrainConfig(batch_size=b, accumulate=asked.get("accumulate", 1))
    trainer = make_trainer(graphdef, Preprocessing(side), config, layout=layout)
    state = layout.shapes(jax.eval_shape(trainer.init, layout.shapes(theta)))

    def placed(tree: Any, spec: jax.sharding.PartitionSpec) -> Any:
        of = functools.partial(jax.ShapeDtypeStruct, sharding=NamedSharding(layout.mesh, spec))
        return jax.tree.map(lambda x: of(x.shape, x.dtype), tree)

    one = images(1, side)
    batch = jax.tree.map(lambda x: jax.ShapeDtypeStruct((b, *x.shape[1:]), x.dtype), one)
    task = jax.eval_shape(lambda: workloads.objective(model.projection))
    lowered = trainer.step.lower(state, placed(batch, BATCH), placed(task, WHOLE))
    return lowered.compile().as_text()


def fold_program(asked: Facts, layout: Layout) -> str:
    """The program that folds one more model into max_magnitude's state."""
    _, theta = workloads.abstract_tower(SIZES[asked["size"]], "float32", whole=layout.whole)
    theta, rule = layout.shapes(theta), rules.max_magnitude()
    state = layout.shapes(jax.eval_shape(rule.init, theta))
    return jax.jit(functools.partial(fold, rule)).lower(state, theta, theta).compile().as_text()


def evaluation_program(asked: Facts, layout: Layout) -> str:
    """The program that evaluates a batch: it is run, and XLA dumps the program to a file.

    XLA_FLAGS must contain `--xla_dump_to`; the compilation cache must be off.
    """
    model, b = SIZES[asked["size"]], asked["batch_size"]
    side = model.vision.image_size
    graphdef, theta = workloads.image_tower(model, asked["dtype"], whole=layout.whole)
    labels = np.arange(CLASSES, dtype=np.int32)
    nothing = np.zeros((CLASSES, 1, 1, 3), np.uint8)
    tested = workloads.scenario(nothing, labels, np.split(labels, TASKS))
    head = jnp.zeros((model.projection, CLASSES))
    evaluate = make_evaluate(graphdef, Preprocessing(side), head, tested, layout)
    evaluate([theta], [images(b, side)._replace(index=np.arange(b, dtype=np.int32) % CLASSES)])
    folder = Path(re.search(r"--xla_dump_to=(\S+)", os.environ["XLA_FLAGS"])[1])
    written = folder.glob("*jit_eval_step*after_optimizations.txt")
    return max(written, key=lambda path: path.stat().st_mtime_ns).read_text()


PROGRAMS = {"training": training_program, "evaluation": evaluation_program, "fold": fold_program}


def read_programs(
    data: int, fsdp: int, programs: Sequence[Facts], topology: str | None = None
) -> list[Facts]:
    """Compiles each program and reads its collectives, or reports why it does not compile, e.g.
    because it runs out of memory.

    Args:
      programs: `name` in `PROGRAMS` and its arguments, with `batch_size` per device.
    """
    layout, read = mesh_layout(data, fsdp, topology), []
    device = layout.mesh.devices.flat[0]
    for program in programs:
        asked = program | {"batch_size": program["batch_size"] * data * fsdp}
        facts = program | {"compiler": device.device_kind}
        try:
            # Models query the platform during tracing, and this machine's may differ.
            with mock.patch.object(jax, "default_backend", lambda: device.platform):
                found = collectives(PROGRAMS[program["name"]](asked, layout))
            facts["collectives"] = [vars(one) for one in found]
        except jax.errors.JaxRuntimeError as error:
            facts["failure"] = str(error).splitlines()[0]
        read.append(facts)
    return read


def prepare(settings: Facts) -> Prepared:
    """Each call is a training step of `size` over `data` x `fsdp` devices in `dtype`, on
    `batch_size` images per device; given `programs`, they are read instead and calls do nothing."""
    data, fsdp = settings["data"], settings["fsdp"]
    if programs := settings.get("programs"):
        read = read_programs(data, fsdp, programs, settings.get("topology"))
        return Prepared({"programs": read}, lambda: None)
    layout, batch_size = mesh_layout(data, fsdp), settings["batch_size"] * data * fsdp
    model, dtype = SIZES[settings["size"]], settings["dtype"]
    trainer, theta, *rest = workloads.training(model, batch_size, dtype, layout=layout)
    step = in_place(lambda state: trainer.step(state, *rest)[0], trainer.init(theta))
    device = layout.mesh.devices.flat[0]
    facts = {"device": device.device_kind, "platform": device.platform}
    return Prepared(facts, lambda: jax.block_until_ready(step()))
