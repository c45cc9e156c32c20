"""An experiment on images of your own: arrays in, accuracies and a picture out."""

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from sklearn.datasets import load_digits

import magmax_jax as mm

digits = load_digits()
images = np.round(digits.images * (255 / 16)).astype(np.uint8)  # (1797, 8, 8), grey
held_out = np.arange(len(images)) % 5 == 0
train = mm.Source(images[~held_out], digits.target[~held_out], digits.target_names)
test = mm.Source(images[held_out], digits.target[held_out], digits.target_names)

out = Path("runs/from_arrays")
prompts = {"templates": ['a photo of the number: "{}".']}
config = mm.preset("quickstart", scenario=prompts, merges=["max_magnitude", "average"])
rows = mm.run(config, out, train=train, test=test)  # again: resumes, or returns the rows at once

axes = Figure(figsize=(6, 4), layout="constrained").subplots()
total = [row for row in rows if (row.protocol, row.group) == ("agnostic", "all")]
axes.axhline(100 * total[0].accuracy, color="grey", linestyle="--", label="zero_shot")
for label in dict.fromkeys(row.label for row in total[1:]):
    line = [(row.after_task, 100 * row.accuracy) for row in total if row.label == label]
    axes.plot(*zip(*line, strict=True), marker="o", label=label)
axes.set(xlabel="tasks learned", xticks=range(1, 6), ylabel="accuracy among all classes, %")
axes.figure.legend(loc="outside upper center", ncols=4, fontsize="small")
axes.figure.savefig(out / "accuracies.png", dpi=150)
