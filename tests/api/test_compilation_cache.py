"""Where compiled programs are cached when an experiment is called from Python."""

import os
import subprocess
import sys

import pytest


@pytest.mark.parametrize("chosen", ["nothing", "by variable", "in Python"])
def test_a_cache_is_set_only_if_none_is_configured(chosen, tmp_path):
    program = (
        "import sys, jax\n"
        "from magmax_jax.api.compilation_cache import keep_compiled_by_default\n"
        "if sys.argv[1] == 'in Python': jax.config.update('jax_compilation_cache_dir', '/mine')\n"
        "keep_compiled_by_default()\n"
        "print(jax.config.jax_compilation_cache_dir)"
    )
    env = os.environ | {"HOME": str(tmp_path), "JAX_COMPILATION_CACHE_DIR": "/mine"}
    if chosen != "by variable":
        del env["JAX_COMPILATION_CACHE_DIR"]
    shown = subprocess.run(
        [sys.executable, "-c", program, chosen], capture_output=True, text=True, env=env, check=True
    )
    ours = tmp_path / ".cache" / "magmax_jax" / "xla"
    assert shown.stdout.strip() == (str(ours) if chosen == "nothing" else "/mine")
