"""Worker processes of the loader: they start without the user's script and leave no memory behind.

Grain 0.2.18 starts them by spawning. Python's spawning runs the main script again in each, so one
without `if __name__ == "__main__":` would start itself anew, and a program from -c, a notebook or
standard input has no file to run. Nothing here needs that: Grain pickles what is defined in the
main script by value.
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
"""How Grain's names of its processes begin."""
_OURS = __name__.partition(".")[0]
_iterators: "weakref.WeakSet[Any]" = weakref.WeakSet()


def in_workers(dataset: grain.IterDataset, workers: int, buffered: int) -> grain.IterDataset:
    """The same elements, read by `workers` processes that hold `buffered` each ready."""
    _prepare()
    return _Watched(
        dataset.mp_prefetch(
            grain.MultiprocessingOptions(workers, buffered), worker_init_fn=_silence_pillow
        )
    )


@dataclass(frozen=True)
class Reporting:
    """A function whose errors reach the process that asked.

    One of a class from the main script, or with arguments of its own, does not travel between
    processes: it would never arrive, and its reader would wait for ever. So Python's and ours do,
    and others as their text.
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
    """Its iterators are closed when Python ends."""

    def __iter__(self) -> Any:
        iterator = iter(self._parent)
        _iterators.add(iterator)
        return iterator


@functools.cache
def _prepare() -> None:
    # Grain 0.2.18 reads an absl flag and fails where no absl.app parsed it (grain #1355).
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
    """Gives the shared memory back in which batches lie until Python deletes them.

    Threads hold some ready, and the traceback of an error, or of an iterator's end, refers to more
    of them in a cycle.
    """
    for iterator in list(_iterators):
        iterator.close()
    # Grain deletes in a thread, which Python would end before its work is done.
    pool, SharedMemoryArray._del_thread_pool = SharedMemoryArray._del_thread_pool, None
    gc.collect()
    if pool is not None:
        pool.close()
        pool.join()
    # Grain's way would fail for what a script still refers to, since modules are gone by then.
    del SharedMemoryArray.__del__
    for array in gc.get_objects():
        if type(array) is SharedMemoryArray and isinstance(array.base, mmap.mmap):
            array.shm.unlink()


def _silence_pillow(index: int, count: int) -> None:
    """Its warnings name no file, and each process would repeat them."""
    warnings.filterwarnings("ignore", module=r"PIL\.")
