#!/usr/bin/env bash
# Grain: a held-out slice of a shuffled data set is trained on from the second epoch on.
#
# Versions: grain 0.2.18, numpy 2.4.6.
# Guess: shuffled = MapDataset.source(...).seed(0).shuffle() is one order; shuffled[:7] and
#   shuffled[7:] are disjoint, and shuffled[:7].repeat(2) is two passes over the same 7 elements.
# Seen: repeat() passes indices beyond the length on, and shuffle() draws another order for them. So
#   the second epoch takes the first 7 of another order: here all 3 held-out elements are trained on.
#   One epoch, a list, or to_iter_dataset() without repeat() show nothing of it.
# So: slice before shuffling (source[:7].shuffle()). We divide arrays of indices, not pipelines.
# Output seen:
#   held out [0, 3, 6]; epoch 1 trains on [1, 2, 4, 5, 7, 8, 9], epoch 2 on [0, 1, 2, 3, 6, 8, 9]
#   sliced first: epoch 1 trains on [0, 1, 2, 3, 4, 5, 6], epoch 2 on [0, 1, 2, 3, 4, 5, 6]
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check grain==0.2.18 numpy==2.4.6
cat > "$work/slices.py" <<'PYTHON'
import grain

source = grain.MapDataset.source(list(range(10))).seed(0)


def epochs(train):
    repeated = train.repeat(2)
    both = [int(repeated[i]) for i in range(14)]
    return f"epoch 1 trains on {sorted(both[:7])}, epoch 2 on {sorted(both[7:])}"


shuffled = source.shuffle()
held_out = sorted(int(x) for x in shuffled[7:])
said = f"held out {held_out}; {epochs(shuffled[:7])}"
print(said)
assert said == (
    "held out [0, 3, 6]; epoch 1 trains on [1, 2, 4, 5, 7, 8, 9], epoch 2 on [0, 1, 2, 3, 6, 8, 9]"
), "this has changed"
said = epochs(source[:7].shuffle())
print(f"sliced first: {said}")
assert said == (
    "epoch 1 trains on [0, 1, 2, 3, 4, 5, 6], epoch 2 on [0, 1, 2, 3, 4, 5, 6]"
), "this has changed"
PYTHON
"$work/venv/bin/python" "$work/slices.py"
