"""A run's checkpoints; the only file that knows Orbax."""

from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp

from magmax_jax.errors import UserError

PyTree = Any


class Checkpoints:
    """The state of a run after its latest task: theta_t, every online merge's state, and the
    regularizer's memory.

    Writing goes on in the background; a checkpoint appears under its task's number once it is
    whole, and then the one before it goes. Use as a context: leaving it waits for the last write.
    """

    def __init__(self, directory: Path):
        options = ocp.CheckpointManagerOptions(max_to_keep=1, create=True)
        self._manager = ocp.CheckpointManager(directory.absolute(), options=options)

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *_) -> None:
        self._manager.close()

    def save(self, task: int, state: PyTree) -> None:
        """Starts to write the state after `task` (from 1); its arrays may be donated thereafter."""
        self._manager.save(task, args=ocp.args.StandardSave(state))

    def restore(self, like: PyTree) -> tuple[int, PyTree]:
        """The latest task's number and state.

        Args:
          like: a state of the same structure, shapes and dtypes; arrays or `jax.ShapeDtypeStruct`s.

        Raises:
          UserError: there is no checkpoint.
        """
        task = self._manager.latest_step()
        if task is None:
            raise UserError(
                f"{self._manager.directory} holds no checkpoint: run the experiment first"
            )
        abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, like)
        return task, self._manager.restore(task, args=ocp.args.StandardRestore(abstract))
