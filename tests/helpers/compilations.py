"""What JAX compiles, from its own monitoring, so no second compilation goes unnoticed.

Programs loaded from the cache on disk count too: what matters is that one was requested.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import jax


@contextmanager
def compilations() -> Iterator[list[str]]:
    """Collects the names of functions compiled in the block, such as "jit(train_step)"."""
    names = []

    def listen(event: str, seconds: float, **facts) -> None:
        if event == "/jax/core/compile/backend_compile_duration":
            names.append(facts.get("fun_name", ""))

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        yield names
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)
