"""JAX's cache of compiled programs, kept on disk for the next process."""

import os
from pathlib import Path

MIN_COMPILE_TIME = "jax_persistent_cache_min_compile_time_secs"


def default_cache() -> Path:
    """JAX's own variable, or a folder of ours in the user's cache directory."""
    named = os.environ.get("JAX_COMPILATION_CACHE_DIR")
    return Path(named) if named else Path.home() / ".cache" / "magmax_jax" / "xla"


def keep_compiled(directory: Path | None) -> None:
    """Keeps every compiled program there; None keeps none. To be called before JAX compiles."""
    import jax

    jax.config.update("jax_compilation_cache_dir", directory and str(directory))
    if MIN_COMPILE_TIME.upper() not in os.environ:
        # JAX keeps what took a second. A run has some 70 programs, and most take less each, but
        # seconds together.
        jax.config.update(MIN_COMPILE_TIME, 0.0)


def keep_compiled_by_default() -> None:
    """The same in the default directory, unless JAX has been given one."""
    import jax

    if jax.config.values["jax_compilation_cache_dir"] is None:
        keep_compiled(default_cache())
