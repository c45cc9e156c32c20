#!/usr/bin/env bash
# Grain: WindowShuffleMapDataset trains on some elements twice and never on others.
#
# Versions: grain 0.2.18, numpy 2.4.6.
# Guess: one pass is a permutation: each element once, near its place. WindowShuffleIterDataset is.
# Seen: only if the window divides the length. The last, shorter window is shuffled as if it were whole:
#   indices beyond the end wrap around to the first elements, which come twice, and some at the end
#   are left out. A window larger than the data set loses 4 of 10. The length is right, so nothing
#   shows; with a fixed seed, the same elements are lost in every run.
# So: choose a window that divides the length, shuffle(), or the IterDataset. Ours permute arrays of
#   indices.
# Output seen:
#   10 elements, window 5: 10 different; IterDataset 10
#   10 elements, window 4: 9 different, missing [9]; IterDataset 10
#   10 elements, window 100: 6 different, missing [1, 4, 6, 8]; IterDataset 10
#   1000 elements, window 300: 928 different, missing [900, 902, 903, 904] and more; IterDataset 1000
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check grain==0.2.18 numpy==2.4.6
cat > "$work/windows.py" <<'PYTHON'
import grain

source = grain.MapDataset.source(list(range(1_000)))


def passes(length, window):
    data = source[:length]
    mapped = grain.experimental.WindowShuffleMapDataset(data, window_size=window, seed=0)
    iterated = grain.experimental.WindowShuffleIterDataset(
        data.to_iter_dataset(), window_size=window, seed=0
    )
    seen = [mapped[i] for i in range(len(mapped))]
    assert len(seen) == length
    lost = sorted(set(range(length)) - set(seen))
    some = f", missing {lost[:4]}{' and more' if len(lost) > 4 else ''}" if lost else ""
    return (
        f"{length} elements, window {window}: {len(set(seen))} different{some}; "
        f"IterDataset {len(set(iterated))}"
    )


said = [passes(10, 5), passes(10, 4), passes(10, 100), passes(1_000, 300)]
print(*said, sep="\n")
assert said == [
    "10 elements, window 5: 10 different; IterDataset 10",
    "10 elements, window 4: 9 different, missing [9]; IterDataset 10",
    "10 elements, window 100: 6 different, missing [1, 4, 6, 8]; IterDataset 10",
    "1000 elements, window 300: 928 different, missing [900, 902, 903, 904] and more; IterDataset 1000",
], "this has changed"
PYTHON
"$work/venv/bin/python" "$work/windows.py" 2> /dev/null
