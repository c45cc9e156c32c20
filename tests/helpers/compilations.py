"""What JAX compiles, from its own monitoring: a second compilation cannot hide.

A program that comes out of the cache on disk counts, too: that one was asked for is what counts.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import jax


@contextmanager
def compilations() -> Iterator[list[str]]:
    """The names of the functions that are compiled meanwhile, such as "jit(train_step)"."""
    names = []

    def listen(event: str, seconds: float, **facts) -> None:
        if event == "/jax/core/compile/backend_compile_duration":
            names.append(facts.get("fun_name", ""))

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        yield names
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)
