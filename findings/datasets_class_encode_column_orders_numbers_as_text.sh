#!/usr/bin/env bash
# datasets: class_encode_column on integer labels gives most of them other numbers: 10 comes before 2.
#
# Versions: datasets 5.2.0, numpy 2.4.6. A user of another project saw labels change (its issue:
#   https://github.com/flairNLP/fabricator/issues/51).
# Guess: integers 0 to n - 1 stay what they are; the column only becomes a ClassLabel, which
#   train_test_split(stratify_by_column=...) asks for.
# Seen: values are made text first and then sorted: 0, 1, 10, 11, ..., 2. Of CIFAR-100's 100 labels
#   88 change, and names are the numbers as text, so none is an error. Up to ten classes nothing
#   changes. Two splits with different classes get different numbers for one class.
# So: cast_column("label", ClassLabel(names=names)) keeps the integers and names them. Our sentence on
#   a missing ClassLabel says so; a head trained on the other numbers predicts other classes.
# Output seen:
#   10 labels: 0 change; 100 labels: 88 change, 10 becomes 2
#   a split with 0, 5, 7 only: [0, 1, 2]
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check datasets==5.2.0 numpy==2.4.6
cat > "$work/labels.py" <<'PYTHON'
import datasets

datasets.disable_progress_bars()


def encoded(labels):
    column = datasets.Dataset.from_dict({"label": labels}).class_encode_column("label")
    assert list(column.features["label"].names) == sorted(map(str, labels))
    return column["label"][:]


ten, hundred = encoded(list(range(10))), encoded(list(range(100)))
changed = [sum(new != old for old, new in enumerate(labels)) for labels in (ten, hundred)]
said = f"10 labels: {changed[0]} change; 100 labels: {changed[1]} change, 10 becomes {hundred[10]}"
few = f"a split with 0, 5, 7 only: {encoded([0, 5, 7])}"
print(said, few, sep="\n")
assert said == "10 labels: 0 change; 100 labels: 88 change, 10 becomes 2", "this has changed"
assert few == "a split with 0, 5, 7 only: [0, 1, 2]", "this has changed"

named = datasets.ClassLabel(names=[f"class {label}" for label in range(100)])
kept = datasets.Dataset.from_dict({"label": list(range(100))}).cast_column("label", named)
assert kept["label"][:] == list(range(100)), "this has changed"
PYTHON
HF_HUB_OFFLINE=1 "$work/venv/bin/python" "$work/labels.py"
