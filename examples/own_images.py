"""A folder of images, one folder per class: learn two classes at a time, merge, evaluate, export.

The images are drawn here. Replace `draw` by your own folder, and the bundled model by a real one:
"openai/clip-vit-base-patch16".
"""

from math import cos, radians, sin
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

import magmax_jax as mm

CLASSES = ("circle", "cross", "square", "triangle")
CORNERS = {"circle": 64, "square": 4, "triangle": 3}


def draw(folder, each=60):
    """Writes `folder/CLASS/NUMBER.png`. One image in five of each class is held out for testing."""
    random = np.random.default_rng(0)
    for name in CLASSES:
        (folder / name).mkdir(parents=True, exist_ok=True)
        for number in range(each):
            image = Image.new("RGB", (64, 64), "white")
            pen = ImageDraw.Draw(image)
            x, y, radius = random.uniform((28, 28, 16), (36, 36, 24))
            angle = random.uniform(0, 360)
            if name == "cross":
                for turned in (radians(angle), radians(angle + 90)):
                    a, b = radius * cos(turned), radius * sin(turned)
                    pen.line((x - a, y - b, x + a, y + b), fill="black", width=8)
            else:
                pen.regular_polygon((x, y, radius), CORNERS[name], angle, fill="black")
            image.save(folder / name / f"{number}.png")
    return folder


out = Path("runs/own_images")
pictures = draw(out / "shapes")
config = mm.preset(
    "folder",
    model={"source": mm.preset("quickstart").model.source},
    scenario={"data_dir": str(pictures), "templates": ["a photo of a {}."]},
    train={"epochs": 10, "learning_rate": 1e-3},  # a small model, which has never seen shapes
    merges=["max_magnitude", "ema+lda@0.7"],
)
rows = mm.run(config, out / "run", progress=False)
for row in rows:
    if row.after_task in (0, 2) and (row.protocol, row.group) == ("agnostic", "all"):
        print(f"{row.label:20} {100 * row.accuracy:5.1f} % among all classes")

exported = out / "model"  # a directory that transformers loads
if not exported.exists():
    mm.export(out / "run", exported, model="ema+lda@0.7")
model = mm.CLIP.from_pretrained(exported)
found = model.classify([pictures / name / "0.png" for name in CLASSES], list(CLASSES))
for name, label in zip(CLASSES, found.labels, strict=True):
    print(f"the first {name} is recognised as a {label}")
