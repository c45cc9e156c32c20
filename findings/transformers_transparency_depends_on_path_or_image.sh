#!/usr/bin/env bash
# transformers' CLIP processor reads one transparent PNG in two ways: by its path, and opened.
#
# Versions: transformers 5.24.0, pillow 13.0.0, numpy 2.4.6; the backend that needs no torch.
# Guess: processor("x.png") and processor(Image.open("x.png")) give the same pixels; the processor
#   composites transparency on white.
# Seen: an opened image is composited on white. A path (and every image in a pipeline) goes through
#   load_image, which converts to RGB first: the model sees the hidden colour, usually black.
# So: a pipeline evaluates a model differently from its own processor. Ours composites all on white.
# Output seen:
#   opened: CLIP 1.0, SigLIP 1.0; by path: CLIP 0.0, SigLIP 0.0
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check \
    transformers==5.24.0 pillow==13.0.0 numpy==2.4.6
cat > "$work/transparency.py" <<'PYTHON'
import sys

import numpy as np
from PIL import Image
from transformers import CLIPImageProcessorPil, SiglipImageProcessorPil

path = sys.argv[1]
pixels = np.zeros((32, 32, 4), np.uint8)  # black that cannot be seen
pixels[8:24, 8:24] = 200, 0, 0, 255  # around a red square
Image.fromarray(pixels).save(path)


def corner(processor, image):
    found = processor(image, do_resize=False, do_normalize=False, do_center_crop=False)
    return float(np.asarray(found["pixel_values"][0])[0, 0, 0])


clip, siglip = CLIPImageProcessorPil(), SiglipImageProcessorPil()
said = []
for how, image in (("opened", Image.open(path)), ("by path", path)):
    said.append(f"{how}: CLIP {corner(clip, image)}, SigLIP {corner(siglip, image)}")
said = "; ".join(said)
print(said)
assert said == "opened: CLIP 1.0, SigLIP 1.0; by path: CLIP 0.0, SigLIP 0.0", "this has changed"
PYTHON
TRANSFORMERS_NO_ADVISORY_WARNINGS=1 "$work/venv/bin/python" "$work/transparency.py" "$work/x.png"
