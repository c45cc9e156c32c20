"""Worker processes of the loader, which do not run the user's script and leak no shared memory.

Grain 0.2.18 spawns them. In each, Python runs the main script again, so a script without
`if __name__ == "__main__":` would restart itself, and a program from -c, a notebook or standard
input has no file to run. None of this is needed here: Grain pickles what the main script defines
by value.
"""

import atexit
import functools
import gc
import mmap
import warnings
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing import spawn
from typing import Any

import grain
from absl import flags
from grain._src.python.ipc.shared_memory_array import SharedMemoryArray

_GRAINS = "grain-process-prefetch"
"""Prefix of Grain's process names."""
_OURS = __name__.partition(".")[0]
_iterators: "weakref.WeakSet[Any]" = weakref.WeakSet()


def in_workers(dataset: grain.IterDataset, workers: int, buffered: int) -> grain.IterDataset:
    """The same elements, read by `workers` processes that buffer `buffered` each."""
    _prepare()
    return _Watched(
        dataset.mp_prefetch(
            grain.MultiprocessingOptions(workers, buffered), worker_init_fn=_silence_pillow
        )
    )


@dataclass(frozen=True)
class Reporting:
    """A function whose errors reach the calling process.

    An error whose class is from the main script or has custom arguments cannot be sent to another
    process: it would never arrive, and the reader would wait forever. So only Python's errors and
    ours are sent as they are, and others as text.
    """

    function: Callable[[Any], Any]

    def __call__(self, element: Any) -> Any:
        try:
            return self.function(element)
        except Exception as error:
            if type(error).__module__.partition(".")[0] in ("builtins", _OURS):
                raise
            said = f"{type(error).__name__}: {error}"
            raise RuntimeError(
                f"in a worker process: {said} (train.workers=0 shows where)"
            ) from None


class _Watched(grain.IterDataset):
    """A dataset whose iterators are closed when Python exits."""

    def __iter__(self) -> Any:
        iterator = iter(self._parent)
        _iterators.add(iterator)
        return iterator


@functools.cache
def _prepare() -> None:
    # Grain 0.2.18 reads an absl flag and fails if no absl.app parsed it (grain #1355).
    if not flags.FLAGS.is_parsed():
        flags.FLAGS.mark_as_parsed()
    prepared = spawn.get_preparation_data

    def without_main(name: str) -> dict[str, Any]:
        found = prepared(name)
        if name.startswith(_GRAINS):
            found.pop("init_main_from_name", None)
            found.pop("init_main_from_path", None)
        return found

    spawn.get_preparation_data = without_main
    atexit.register(_end)


def _end() -> None:
    """Frees the shared memory of batches, which otherwise lives until Python deletes them.

    Threads buffer some, and the traceback of an error, or of an iterator's end, references others
    in a cycle.
    """
    for iterator in list(_iterators):
        iterator.close()
    # Grain deletes in a thread, which Python would stop before it is done.
    pool, SharedMemoryArray._del_thread_pool = SharedMemoryArray._del_thread_pool, None
    gc.collect()
    if pool is not None:
        pool.close()
        pool.join()
    # Grain's `__del__` would fail for arrays that a script still references: modules are gone then.
    del SharedMemoryArray.__del__
    for array in gc.get_objects():
        if type(array) is SharedMemoryArray and isinstance(array.base, mmap.mmap):
            array.shm.unlink()


def _silence_pillow(index: int, count: int) -> None:
    """Silences Pillow's warnings: they name no file, and each process would repeat them."""
    warnings.filterwarnings("ignore", module=r"PIL\.")
