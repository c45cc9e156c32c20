"""How launchers start JAX: the compilation cache, and the other processes of the run."""

import contextlib
import ipaddress
import socket
import sys
from dataclasses import dataclass, field
from pathlib import Path

from magmax_jax.api.compilation_cache import default_cache, keep_compiled
from magmax_jax.cli.lost_process import HEARTBEAT, end_at_once_on_errors
from magmax_jax.cli.node_gpus import idle_gpus_of_run
from magmax_jax.errors import UserError


@dataclass(frozen=True)
class Engine:
    """Settings that JAX needs before it starts; none affects results."""

    cache: Path | None = field(default_factory=default_cache)
    """Directory that keeps compiled programs for the next run; None keeps none."""
    distributed: bool = False
    """This is one of several processes of a run; start each with this option. On a cluster that JAX
    knows (Slurm, Open MPI, Kubernetes, Cloud TPU) nothing else is needed. On Slurm start one
    process for each GPU: srun --ntasks-per-node 8 --gpus-per-node 8."""
    coordinator: str | None = None
    """On other clusters: HOST:PORT of process 0; any free port. If HOST is an address of that
    machine, or localhost, process 0 listens on it alone; otherwise on every interface."""
    processes: int | None = None
    """On other clusters: number of processes."""
    process: int | None = None
    """On other clusters: index of this process, from 0."""

    def __post_init__(self) -> None:
        address = self.coordinator, self.processes, self.process
        given = sum(value is not None for value in address)
        if given not in (0, 3):
            raise UserError("--coordinator, --processes and --process go together: give all three")
        if given and not self.distributed:
            raise UserError(
                "--coordinator, --processes and --process need --distributed: add it, or leave "
                "them out"
            )
        if self.process is None or self.processes is None:
            return
        if not 0 <= self.process < self.processes:
            raise UserError(
                f"--process is {self.process}: with --processes {self.processes} it is one of 0 to "
                f"{self.processes - 1}"
            )

    def start(self) -> None:
        """Configures JAX; call it once, before JAX computes anything.

        Raises:
          UserError: the other processes cannot be found.
        """
        keep_compiled(self.cache)
        if not self.distributed:
            return
        import jax

        try:
            jax.distributed.initialize(
                self.coordinator,
                self.processes,
                self.process,
                coordinator_bind_address=bind_address(self.coordinator),
                heartbeat_timeout_seconds=HEARTBEAT,
                shutdown_timeout_seconds=60,
            )
        except ValueError as error:  # JAX raises it if it recognises no cluster
            raise UserError(
                f"--distributed finds no cluster ({error}): start it with srun on Slurm, or give "
                "--coordinator, --processes and --process"
            ) from None
        except RuntimeError as error:
            raise UserError(
                f"--distributed cannot reach the other processes ({error}): check --coordinator, "
                "and that all processes are started"
            ) from None
        end_at_once_on_errors()
        idle = idle_gpus_of_run()
        if idle and jax.process_index() == 0:
            print(f"note: {idle}", file=sys.stderr)


def bind_address(coordinator: str | None) -> str | None:
    """Where process 0 listens: None for every interface, JAX's default.

    The coordinator has no password, so it listens no more widely than its name requires. A host
    name is not enough to decide: on Debian a machine resolves its own name to 127.0.1.1, which
    others cannot reach, and a public address may be a router's.

    Args:
      coordinator: HOST:PORT.
    """
    host, _, _ = (coordinator or "").rpartition(":")
    try:
        address = ipaddress.ip_address("127.0.0.1" if host == "localhost" else host.strip("[]"))
    except ValueError:
        return None
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    with contextlib.suppress(OSError), socket.socket(family) as tried:
        tried.bind((str(address), 0))
        return coordinator
    return None
