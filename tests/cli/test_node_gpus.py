"""GPUs that no process of a run uses are reported, with a remedy."""

import jax
import pytest

from magmax_jax.cli.engine import Engine
from magmax_jax.cli.node_gpus import Seen, gpus_of_node, idle_gpus


@pytest.mark.parametrize(
    ("environ", "gpus"),
    [
        ({"SLURM_GPUS_ON_NODE": "8", "CUDA_VISIBLE_DEVICES": "0"}, 8),
        ({"SLURM_JOB_GPUS": "0,1,4,5"}, 4),
        ({"SLURM_STEP_GPUS": "2", "SLURM_JOB_GPUS": "0,1,2"}, 1),
        ({"CUDA_VISIBLE_DEVICES": "GPU-8932f937-d72c,GPU-1b1d"}, 2),
        ({"CUDA_VISIBLE_DEVICES": "MIG-3f31b4ac-96d2"}, 1),
        ({"CUDA_VISIBLE_DEVICES": ""}, 0),
        ({"CUDA_VISIBLE_DEVICES": "-1"}, 0),
        ({"SLURM_GPUS_ON_NODE": "a100:2"}, 3),
        ({}, 3),
    ],
)
def test_gpus_are_counted_without_jax(environ, gpus, tmp_path):
    for address in ("0000:07:00.0", "0000:0a:00.0", "0000:47:00.0"):
        (tmp_path / address).mkdir()
    assert gpus_of_node(environ, tmp_path) == gpus


def test_a_host_without_a_driver_has_no_gpus(tmp_path):
    assert gpus_of_node({}, tmp_path / "none") == 0


def test_idle_gpus_are_counted_over_all_processes():
    one_a_node = [Seen(node, 8, 1) for node in (11, 22)]
    assert idle_gpus(one_a_node, on_slurm=True) == (
        "this run uses 2 of the 16 GPUs on 2 nodes: start one process for each GPU "
        "(srun --ntasks-per-node 8 --gpus-per-node 8)"
    )
    assert idle_gpus([Seen(11, 2, 1)], on_slurm=False) == (
        "this run uses 1 of the 2 GPUs on 1 node: start one process for each GPU"
    )
    one_a_gpu = [Seen(node, 8, 1) for node in (11, 22) for _ in range(8)]
    assert idle_gpus(one_a_gpu, on_slurm=True) is None
    assert idle_gpus(one_a_gpu[1:], on_slurm=True) is not None  # one node with only seven
    assert idle_gpus([Seen(11, 8, 8), Seen(22, 8, 8)], on_slurm=False) is None
    assert idle_gpus([Seen(11, 0, 1)], on_slurm=False) is None  # cannot be counted here


def test_a_run_on_slurm_says_so_when_it_starts(monkeypatch, capsys):
    """One process on a node with eight GPUs; JAX gives it only the first."""
    monkeypatch.setattr(jax.distributed, "initialize", lambda *args, **options: None)
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    for name, value in (("SLURM_JOB_ID", "7"), ("SLURM_GPUS_ON_NODE", "8")):
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(jax.config, "update", lambda name, value: None)
    Engine(distributed=True).start()
    assert capsys.readouterr().err.startswith("note: this run uses 1 of the 8 GPUs on 1 node: ")
    monkeypatch.setenv("SLURM_GPUS_ON_NODE", "1")
    Engine(distributed=True).start()
    assert capsys.readouterr().err == ""
