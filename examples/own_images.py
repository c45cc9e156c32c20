"""A folder of images, one folder per class: learn two classes at a time, merge, evaluate, export.

The images are drawn here. Replace `draw` by your own folder, and the bundled model by a real one:
"openai/clip-vit-base-patch16".
"""

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

import magmax_jax as mm

CLASSES = {"circle": 64, "triangle": 3, "square": 4, "hexagon": 6}  # and their numbers of corners


def draw(folder, each=30):
    """Writes `folder/CLASS/NUMBER.png`. One image in five of each class is held out for testing."""
    random = np.random.default_rng(0)
    for name, corners in CLASSES.items():
        (folder / name).mkdir(parents=True, exist_ok=True)
        for number in range(each):
            image = Image.new("RGB", (64, 64), "white")
            x, y, radius = random.uniform((24, 24, 12), (40, 40, 22))
            shape = ((x, y, radius), corners, random.uniform(0, 360))
            ImageDraw.Draw(image).regular_polygon(*shape, fill="black")
            image.save(folder / name / f"{number}.png")
    return folder


out = Path("runs/own_images")
pictures = draw(out / "shapes")
config = mm.preset(
    "folder",
    model={"source": mm.preset("quickstart").model.source},
    scenario={"data_dir": str(pictures), "templates": ["a photo of a {}."]},
    train={"epochs": 6, "learning_rate": 3e-4},
    merges=["max_magnitude", "average", "average+lda@1"],
)
rows = mm.run(config, out / "run", progress=False)
for row in rows:
    if row.after_task == 2 and (row.protocol, row.group) == ("agnostic", "all"):
        print(f"{row.label:20} {100 * row.accuracy:5.1f} % among all classes")

exported = out / "model"  # a directory that transformers loads
if not exported.exists():
    mm.export(out / "run", exported, model="average+lda@1")
model = mm.CLIP.from_pretrained(exported)
found = model.classify(
    [pictures / "circle" / "0.png", pictures / "square" / "0.png"], list(CLASSES)
)
print("a circle and a square are recognised as", " and ".join(found.labels))
