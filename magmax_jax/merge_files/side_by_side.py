"""Several tensors at once: a decomposition of a matrix keeps one core busy, whatever its library.

OpenBLAS, which JAX and NumPy call, spreads some of its steps over threads that wait for each other
in a loop, against XLA's own. One thread for each matrix, and as many matrices at
once as there are cores, take the least time.
"""

import contextlib
import os
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

AT_ONCE = 1 << 30
"""Bytes that items may take which are computed beside the largest of them, or wait to be used."""

Item = TypeVar("Item")
Result = TypeVar("Result")


def side_by_side(
    function: Callable[[Item], Result],
    items: Iterable[Item],
    nbytes: Callable[[Item], int],
) -> Generator[Result]:
    """The function of every item, in their order, computed by one thread for each core.

    After an error, of the function or where its results are used, nothing further is begun.

    Args:
      nbytes: what an item takes until its result is used; see `AT_ONCE`.
    """
    waiting: deque[tuple[int, Future[Result]]] = deque()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    with ThreadPoolExecutor(cores) as pool:
        try:
            for item in items:
                size = nbytes(item)
                while waiting and _beside(size, *(other for other, _ in waiting)) > AT_ONCE:
                    yield waiting.popleft()[1].result()
                waiting.append((size, pool.submit(function, item)))
            while waiting:
                yield waiting.popleft()[1].result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _beside(*sizes: int) -> int:
    return sum(sizes) - max(sizes)


@contextlib.contextmanager
def one_thread_each() -> Iterator[None]:
    """Within it a call of BLAS or LAPACK takes one thread; for the whole process."""
    # Lazy: only rules that decompose need them. SciPy's is the library that JAX calls; it has to be
    # loaded for its threads to be limited.
    import scipy.linalg.cython_lapack  # noqa: F401
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1, user_api="blas"):
        yield
