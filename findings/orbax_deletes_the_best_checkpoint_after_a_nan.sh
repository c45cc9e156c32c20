#!/usr/bin/env bash
# Orbax: one NaN among the metrics, and the best checkpoint is deleted while a worse one is kept.
#
# Versions: orbax-checkpoint 0.12.8 with jax 0.10.2 (Python 3.11) or 0.12.0.1 (Python 3.12 and newer).
# Guess: CheckpointManagerOptions(best_fn=..., max_to_keep=1) keeps the step with the best metric; a
#   step whose metric is NaN (a diverged loss, an accuracy of no images) is the worst, or is ignored.
# Seen: steps are sorted by their metrics, and NaN is neither less nor greater. A NaN that comes last
#   counts as the best: everything else is deleted, for best_mode "max" as for "min". After one in
#   between, 0.9 is deleted and 0.8 or 0.7 kept, and best_step() names it. No warning, no error.
# So: let best_fn return -inf (or inf, for "min") instead of NaN. Our runs end at a loss that is not
#   finite, before it is saved, and do not choose checkpoints by a metric.
# Output seen:
#   max of 0.9, 0.5, nan: kept nan
#   min of 0.5, 0.9, nan: kept nan
#   max of 0.9, nan, 0.8: kept 0.8
#   max of 0.5, 0.9, nan, 0.6, 0.7: kept 0.7
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
version=$("$work/venv/bin/python" -c 'import sys; print("0.10.2" if sys.version_info < (3, 12) else "0.12.0.1")')
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check "jax==$version" "jaxlib==$version" orbax-checkpoint==0.12.8
cat > "$work/best.py" <<'PYTHON'
import sys
import tempfile

import jax.numpy as jnp
import orbax.checkpoint as ocp

nan = float("nan")


def kept(mode, accuracies):
    options = ocp.CheckpointManagerOptions(
        max_to_keep=1, best_fn=lambda metrics: metrics["accuracy"], best_mode=mode
    )
    folder = tempfile.mkdtemp(dir=sys.argv[1])
    with ocp.CheckpointManager(folder, options=options) as manager:
        for step, accuracy in enumerate(accuracies):
            saved = ocp.args.StandardSave({"w": jnp.full(2, step)})
            manager.save(step, args=saved, metrics={"accuracy": accuracy})
        manager.wait_until_finished()
        [step] = manager.all_steps()
        assert manager.best_step() == step
    return accuracies[step]


assert kept("max", [0.5, 0.9, 0.6]) == 0.9 and kept("min", [0.9, 0.5, 0.6]) == 0.5
for mode, accuracies, expected in (
    ("max", [0.9, 0.5, nan], "nan"),
    ("min", [0.5, 0.9, nan], "nan"),
    ("max", [0.9, nan, 0.8], "0.8"),
    ("max", [0.5, 0.9, nan, 0.6, 0.7], "0.7"),
):
    found = str(kept(mode, accuracies))
    print(f"{mode} of {', '.join(map(str, accuracies))}: kept {found}")
    assert found == expected, "this has changed"
PYTHON
JAX_PLATFORMS=cpu "$work/venv/bin/python" "$work/best.py" "$work" 2> /dev/null
