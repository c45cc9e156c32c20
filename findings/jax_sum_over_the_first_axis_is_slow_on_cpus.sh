#!/usr/bin/env bash
# jnp.sum(x, 0) under jit takes 25 to 60 times as long on CPUs as the same sum written out.
#
# Versions: jax 0.10.2 (Python 3.11), CPU. In 0.12.0.1 (Python 3.12 and newer) it is within 2 times.
# Guess: summing 8 matrices by `jnp.sum(x, 0)` takes as long as x[0] + x[1] + ... + x[7], or less.
# Seen: XLA gives the reduction to YNNPACK (a "__ynn_fusion" in the compiled program), whose kernel
#   for the first axis is that slow; the last axis is fine. So is the first without these fusions
#   (XLA_FLAGS=--xla_cpu_experimental_ynn_fusion_type=), as the second line shows.
# So: on 0.10.2, write out sums over the first axis, such as those over per-example gradients.
# Output seen, on 2 cores:
#   0.10.2 sum over written out: 26.5 62.0          (of (8, 128, 512) and (8, 768, 3072))
#   0.10.2 without YNNPACK: 1.1 1.1
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
version=$("$work/venv/bin/python" -c 'import sys; print("0.10.2" if sys.version_info < (3, 12) else "0.12.0.1")')
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check "jax==$version" "jaxlib==$version"
cat > "$work/sums.py" <<'PYTHON'
import functools
import statistics
import sys
import time

import jax
import jax.numpy as jnp


def reduced(x):
    return jnp.sum(x, 0)


def written_out(x):
    return functools.reduce(jnp.add, list(x))


def ratio(*shape):
    x = jax.random.normal(jax.random.key(0), shape)
    programs = [jax.jit(f).lower(x).compile() for f in (reduced, written_out)]
    seconds = [[], []]
    for _ in range(9):
        for program, taken in zip(programs, seconds):
            start = time.perf_counter()
            program(x).block_until_ready()
            taken.append(time.perf_counter() - start)
    first, second = map(statistics.median, seconds)
    return first / second


ratios = [ratio(8, 128, 512), ratio(8, 768, 3072)]
print(f"{jax.__version__} {' '.join(sys.argv[1:])}: {' '.join(f'{r:.1f}' for r in ratios)}")
slow = jax.__version__ == "0.10.2" and "without" not in sys.argv
sys.exit(not (min(ratios) > 8 if slow else max(ratios) < 8))
PYTHON
export JAX_PLATFORMS=cpu
"$work/venv/bin/python" "$work/sums.py" sum over written out
export XLA_FLAGS=--xla_cpu_experimental_ynn_fusion_type=
"$work/venv/bin/python" "$work/sums.py" without YNNPACK
