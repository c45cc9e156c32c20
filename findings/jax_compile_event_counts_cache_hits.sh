#!/usr/bin/env bash
# JAX's event "backend_compile_duration" is reported for programs that were never compiled.
#
# Versions: jax 0.10.2 (Python 3.11) and 0.12.0.1 (Python 3.12 and newer), CPU.
# Guess: with a persistent compilation cache, a second process that finds its program there compiles
#   nothing, so a jax.monitoring listener gets no /jax/core/compile/backend_compile_duration.
# Seen: it gets one for each program, cache hit or not, with the same fun_name; its seconds are
#   those of reading the cache. Only /jax/compilation_cache/cache_hits and
#   /jax/compilation_cache/cache_retrieval_time_sec distinguish the two.
# So: counting this event counts traced programs, which is what a test of "one compile per run"
#   needs with or without a cache; but the sum of its seconds is not compile time in a warm process.
# Output seen:
#   0.10.2 cold: compiled jit(step) 1, cache hits 0
#   0.10.2 warm: compiled jit(step) 1, cache hits 1
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
version=$("$work/venv/bin/python" -c 'import sys; print("0.10.2" if sys.version_info < (3, 12) else "0.12.0.1")')
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check "jax==$version" "jaxlib==$version"
cat > "$work/step.py" <<'PYTHON'
import sys

import jax
import jax.numpy as jnp

compiled, hits = [], []
jax.monitoring.register_event_duration_secs_listener(
    lambda name, seconds, **facts: compiled.append((name, facts.get("fun_name")))
)
jax.monitoring.register_event_listener(lambda name, **facts: hits.append(name))
x = jnp.ones((8, 8))


@jax.jit
def step(x):
    return jnp.sin(x) @ x.T


before = hits.count("/jax/compilation_cache/cache_hits")
step(x).block_until_ready()
count = compiled.count(("/jax/core/compile/backend_compile_duration", "jit(step)"))
hit = hits.count("/jax/compilation_cache/cache_hits") - before
print(f"{jax.__version__} {sys.argv[1]}: compiled jit(step) {count}, cache hits {hit}")
PYTHON
export JAX_PLATFORMS=cpu JAX_COMPILATION_CACHE_DIR="$work/cache"
export JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS=0 JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES=-1
cold=$("$work/venv/bin/python" "$work/step.py" cold)
warm=$("$work/venv/bin/python" "$work/step.py" warm)
printf '%s\n%s\n' "$cold" "$warm"
[[ $cold == *"cold: compiled jit(step) 1, cache hits 0" ]]
[[ $warm == *"warm: compiled jit(step) 1, cache hits 1" ]]
