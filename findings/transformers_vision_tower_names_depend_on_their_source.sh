#!/usr/bin/env bash
# The tensor names of a CLIPVisionModel saved by transformers depend on what it was loaded from.
#
# Versions: transformers 5.24.0, torch 2.13.0 (CPU), safetensors 0.8.0.
# Guess: one class saves one set of names: without the prefix vision_model., as a model made from a
#   configuration does.
# Seen: one that was loaded from a checkpoint with the prefix, such as a whole CLIP, saves with it;
#   one loaded from names without it saves without. The class and config.json are the same.
# So: towers fine-tuned from one CLIP may differ in every name from towers trained from scratch. We
#   compare, complete and merge them in either spelling.
# Output seen:
#   made: embeddings.class_embedding;
#   from a whole CLIP: vision_model.embeddings.class_embedding; from each again: the same
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check torch==2.13.0
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check \
    transformers==5.24.0 safetensors==0.8.0
cat > "$work/names.py" <<'PYTHON'
import sys
from pathlib import Path

from safetensors import safe_open
from transformers import CLIPConfig, CLIPModel, CLIPVisionModel

work = Path(sys.argv[1])
tower = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
config = CLIPConfig(
    vision_config=tower | {"image_size": 16, "patch_size": 8},
    text_config=tower | {"vocab_size": 99},
    projection_dim=8,
)


def saved(model, name):
    model.save_pretrained(work / name)
    with safe_open(work / name / "model.safetensors", "pt") as file:
        (found,) = (key for key in file.keys() if key.endswith("embeddings.class_embedding"))
    return found


made = saved(CLIPVisionModel(config.vision_config), "made")
saved(CLIPModel(config), "whole")
loaded = saved(CLIPVisionModel.from_pretrained(work / "whole"), "loaded")
again = [
    saved(CLIPVisionModel.from_pretrained(work / name), f"{name}-again") for name in ("made", "loaded")
]
same = "the same" if again == [made, loaded] else again
said = f"made: {made}; from a whole CLIP: {loaded}; from each again: {same}"
print(said)
assert said == (
    "made: embeddings.class_embedding; from a whole CLIP: vision_model.embeddings.class_embedding; "
    "from each again: the same"
), "this has changed"
PYTHON
"$work/venv/bin/python" "$work/names.py" "$work" 2> /dev/null
