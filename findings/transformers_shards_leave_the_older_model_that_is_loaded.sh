#!/usr/bin/env bash
# transformers: saving in shards over a model in one file leaves that file, which is then loaded.
#
# Versions: transformers 5.24.0, torch 2.13.0 (CPU). diffusers' issue 14769 is about its like for .bin.
# Guess: save_pretrained replaces what an earlier save_pretrained wrote to the directory, so
#   from_pretrained gives the model that was saved last. The other way round it does.
# Seen: the shards of an earlier save are removed, a single file is not, and from_pretrained prefers
#   the single file: it loads the older model, without a word. A larger model, a smaller
#   max_shard_size, or a transformers 4 (whose shards are 5 GB, not 50) is enough. Saving in one file
#   over shards removes them, but leaves their index.
# So: save into new directories. Ours compares the two and refuses them if they differ.
# Output seen:
#   one file, then shards: both there; loads the older model
#   shards, then one file: index there, shards gone; loads the newer model
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check torch==2.13.0
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check transformers==5.24.0
cat > "$work/twice.py" <<'PYTHON'
import sys
from pathlib import Path

import torch
from transformers import CLIPVisionConfig, CLIPVisionModel

work = Path(sys.argv[1])
config = CLIPVisionConfig(
    hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2, image_size=16
)
NAME = "model.safetensors"
models = {age: CLIPVisionModel(config) for age in ("older", "newer")}
weights = {age: next(model.parameters()) for age, model in models.items()}


def saved(place, *sizes):
    for model, size in zip(models.values(), sizes, strict=True):
        model.save_pretrained(place, max_shard_size=size)
    found = next(CLIPVisionModel.from_pretrained(place).parameters())
    (loaded,) = (age for age, weight in weights.items() if torch.equal(weight, found))
    shards = any(place.glob("model-*-of-*.safetensors"))
    return (place / NAME).exists(), (place / f"{NAME}.index.json").exists(), shards, loaded


first, second = saved(work / "a", "1GB", "10KB"), saved(work / "b", "10KB", "1GB")
assert first[:3] == (True, True, True) and second[:3] == (True, True, False), "this has changed"
print(f"one file, then shards: both there; loads the {first[3]} model")
print(f"shards, then one file: index there, shards gone; loads the {second[3]} model")
assert (first[3], second[3]) == ("older", "newer"), "this has changed"
PYTHON
"$work/venv/bin/python" "$work/twice.py" "$work" 2> /dev/null
