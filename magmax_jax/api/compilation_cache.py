"""JAX's cache of compiled programs, kept on disk for the next process."""

import os
from pathlib import Path

MIN_COMPILE_TIME = "jax_persistent_cache_min_compile_time_secs"


def default_cache() -> Path:
    """The value of JAX's own variable, or our folder in the user's cache directory."""
    named = os.environ.get("JAX_COMPILATION_CACHE_DIR")
    return Path(named) if named else Path.home() / ".cache" / "magmax_jax" / "xla"


def keep_compiled(directory: Path | None) -> None:
    """Keeps every compiled program there; None keeps none. Call it before JAX compiles."""
    import jax

    jax.config.update("jax_compilation_cache_dir", directory and str(directory))
    if MIN_COMPILE_TIME.upper() not in os.environ:
        # By default JAX keeps programs that took a second or more. A run has about 70 programs;
        # most take less, but together they take seconds.
        jax.config.update(MIN_COMPILE_TIME, 0.0)


def keep_compiled_by_default() -> None:
    """The same in the default directory, unless JAX has been given one."""
    import jax

    if jax.config.values["jax_compilation_cache_dir"] is None:
        keep_compiled(default_cache())
