"""Processes several tensors at once: a matrix decomposition keeps one core busy in any library.

OpenBLAS, which JAX and NumPy call, spreads some of its steps over threads that busy-wait for each
other and compete with XLA's. One thread per matrix, with as many matrices at once as there are
cores, is fastest.
"""

import contextlib
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from magmax_jax.devices.machine import usable_cores

AT_ONCE = 1 << 30
"""Most bytes of items that are computed alongside the largest one, or wait to be used."""

Item = TypeVar("Item")
Result = TypeVar("Result")


def side_by_side(
    function: Callable[[Item], Result],
    items: Iterable[Item],
    nbytes: Callable[[Item], int],
) -> Generator[Result]:
    """The function of every item, in order, computed with one thread per core.

    After an error, in the function or where its results are used, no further items are started.

    Args:
      nbytes: what an item takes until its result is used; see `AT_ONCE`.
    """
    waiting: deque[tuple[int, Future[Result]]] = deque()
    with ThreadPoolExecutor(usable_cores()) as pool:
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
    """Limits BLAS and LAPACK calls to one thread within the block, for the whole process."""
    # Lazy: only rules that decompose need them. JAX calls SciPy's library, which must be loaded for
    # its threads to be limited.
    import scipy.linalg.cython_lapack  # noqa: F401
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1, user_api="blas"):
        yield
