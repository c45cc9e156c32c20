#!/usr/bin/env bash
# optax's cross entropy: the label -1 is the last class, and with -100 the gradient is not NaN.
#
# Versions: optax 0.2.8 with jax 0.10.2 (Python 3.11) or 0.12.0.1 (Python 3.12 and newer), CPU.
# Guess: softmax_cross_entropy_with_integer_labels skips the label -100, as torch and transformers do,
#   or gives NaN for every label that is not a class, which then stops the training.
# Seen: labels from -1 to -classes count from the end, as indices do: -1, the usual mark of an image
#   without a label, trains the last class. Beyond, the loss is NaN, but its gradient is that of a
#   label that no class has: it lowers all logits. So training goes on, on these images too, with
#   finite weights and a loss that reads NaN; logged per epoch by nanmean, not even that.
# So: check labels before, or pass `where` with 0 <= label < classes. Ours refuse such labels with
#   their position when a data set is opened.
# Output seen, of 3 classes from logits of 0 (loss; step against the gradient):
#   label 2: 1.10; [-0.33, -0.33, 0.67]
#   label -1: 1.10; [-0.33, -0.33, 0.67]
#   label -100: nan; [-0.33, -0.33, -0.33]
#   label 3: nan; [-0.33, -0.33, -0.33]
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
version=$("$work/venv/bin/python" -c 'import sys; print("0.10.2" if sys.version_info < (3, 12) else "0.12.0.1")')
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check "jax==$version" "jaxlib==$version" optax==0.2.8
cat > "$work/labels.py" <<'PYTHON'
import jax
import jax.numpy as jnp
import optax

LAST = "1.10; [-0.33, -0.33, 0.67]"
NONE = "nan; [-0.33, -0.33, -0.33]"
for label, expected in {2: LAST, -1: LAST, -100: NONE, 3: NONE}.items():
    loss, gradient = jax.value_and_grad(
        lambda logits: optax.softmax_cross_entropy_with_integer_labels(logits, jnp.array([label])).sum()
    )(jnp.zeros((1, 3)))
    said = f"{float(loss):.2f}; {[round(-float(g), 2) for g in gradient[0]]}"
    print(f"label {label}: {said}")
    assert said == expected, "this has changed"
PYTHON
JAX_PLATFORMS=cpu "$work/venv/bin/python" "$work/labels.py"
