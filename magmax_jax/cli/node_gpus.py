"""Whether the processes of a run use all GPUs of their nodes.

Under Slurm and Open MPI `jax.distributed.initialize` gives each process one GPU, the one with its
local rank, even if the coordinator is named: a single process on a node with eight GPUs silently
leaves seven idle.
"""

import os
import socket
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from magmax_jax.errors import counted

DRIVER = Path("/proc/driver/nvidia/gpus")
LISTS = ("SLURM_STEP_GPUS", "SLURM_JOB_GPUS", "CUDA_VISIBLE_DEVICES")


class Seen(NamedTuple):
    """What one process sees.

    Attributes:
      node: a number that identifies its host.
      gpus: number of the host's GPUs available to this job.
      used: devices that JAX uses in this process.
    """

    node: int
    gpus: int
    used: int


def gpus_of_node(environ: Mapping[str, str] = os.environ, driver: Path = DRIVER) -> int:
    """Number of this host's GPUs available to this job, found without JAX.

    Slurm's count; otherwise those visible to CUDA, or all that NVIDIA's driver lists.
    """
    counted_by_slurm = environ.get("SLURM_GPUS_ON_NODE", "")
    if counted_by_slurm.isdigit():
        return int(counted_by_slurm)
    for name in LISTS:
        if name in environ:
            return len([gpu for gpu in environ[name].split(",") if gpu not in ("", "-1")])
    return len(list(driver.iterdir())) if driver.is_dir() else 0


def idle_gpus(processes: Sequence[Seen], on_slurm: bool) -> str | None:
    """A sentence on GPUs that no process uses, and how to use them; None if all are used.

    Args:
      processes: all processes of the run.
      on_slurm: whether Slurm started them.
    """
    gpus = {seen.node: seen.gpus for seen in processes}
    used = dict.fromkeys(gpus, 0)
    for seen in processes:
        used[seen.node] += seen.used
    if all(used[node] >= gpus[node] for node in gpus):
        return None
    most = max(gpus.values())
    how = f" (srun --ntasks-per-node {most} --gpus-per-node {most})" if on_slurm else ""
    return (
        f"this run uses {sum(used.values())} of the {counted(sum(gpus.values()), 'GPU')} on "
        f"{counted(len(gpus), 'node')}: start one process for each GPU{how}"
    )


def idle_gpus_of_run() -> str | None:
    """`idle_gpus` of this run; every process of the run must call it."""
    import jax
    import numpy as np
    from jax.experimental import multihost_utils

    if jax.default_backend() != "gpu":  # JAX itself warns if it cannot use a GPU
        return None
    node = zlib.crc32(socket.gethostname().encode())
    ours = np.array([node, gpus_of_node(), jax.local_device_count()], np.uint32)
    gathered = multihost_utils.process_allgather(ours).reshape(-1, len(ours))
    return idle_gpus([Seen(*row) for row in gathered.tolist()], "SLURM_JOB_ID" in os.environ)
