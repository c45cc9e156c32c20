"""Unlearning: a CLIP that knows all digits forgets one of them and keeps the others.

The model is fine-tuned on images of that digit only, several times with different settings, and the
changes on which the fine-tunings agree are subtracted (NegMerge, arXiv 2410.05583). For comparison:
their average, and the best of them alone. Each scale is the one furthest from 0 that keeps 95 % of
the accuracy on the other digits, on held-out images; the table shows test images.
"""

from itertools import takewhile
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits

import magmax_jax as mm

FORGOTTEN, SHARE_KEPT = 7, 0.95
SETTINGS = [(rate, epochs) for rate in (1e-4, 3e-4) for epochs in (2, 4, 8)]
SCALES = [-step / 20 for step in range(41)]  # 0, -0.05, ..., -2
TEMPLATE = 'a photo of the number: "{}".'

digits = load_digits()
names = [str(name) for name in digits.target_names]
images = np.round(digits.images * (255 / 16)).astype(np.uint8)[..., None].repeat(3, axis=-1)
out = Path("runs/forget_a_class")


def source(chosen):
    return mm.Source(images[chosen], digits.target[chosen], names)


fifth = np.arange(len(images)) % 5
train, held_out, test = source(fifth > 1), source(fifth == 1), source(fifth == 0)
to_forget = source((fifth > 1) & (digits.target == FORGOTTEN))


def learned(name, start, train, seed, **recipe):
    """A directory with the model after one task. Its softmax covers all digits, even if the images
    show only one; in class-incremental learning such a task would learn nothing."""
    config = mm.preset("quickstart", seed=seed, merges=[], model={"source": str(start)})
    scenario = {"kind": "data", "num_tasks": 1, "templates": [TEMPLATE]}
    config = config.replace(scenario=scenario, train=recipe)
    mm.run(config, out / name, train=train, test=held_out, progress=False)
    directory = out / "models" / name
    return directory if directory.exists() else mm.export(out / name, directory)


def accuracies(model, source):
    """Accuracies on the digit to forget, and on the others."""
    right = np.int32(model.classify(source.images, names, TEMPLATE).labels) == source.labels
    own = source.labels == FORGOTTEN
    return right[own].mean(), right[~own].mean()


def furthest(models, rule):
    """The scale furthest from 0 that keeps the other digits, and the model there."""
    merged = ((scale, mm.merge(knows_all, models, rule, scale)) for scale in SCALES)
    *_, last = takewhile(lambda at: accuracies(at[1], held_out)[1] >= least, merged)
    return last


start = learned("all", mm.preset("quickstart").model.source, train, seed=1, epochs=5)
knows_all = mm.CLIP.from_pretrained(start)
least = SHARE_KEPT * accuracies(knows_all, held_out)[1]
tuned = [
    mm.CLIP.from_pretrained(
        learned(f"{FORGOTTEN}-{seed}", start, to_forget, seed, learning_rate=rate, epochs=epochs)
    )
    for seed, (rate, epochs) in enumerate(SETTINGS)
]
alone = [furthest([model], "task_arithmetic") for model in tuned]
shown = {
    "knows all digits": (0, knows_all),
    f"best of {len(tuned)} alone": min(alone, key=lambda at: accuracies(at[1], held_out)[0]),
    "average": furthest(tuned, "average"),
    "negmerge": furthest(tuned, "negmerge"),
}
print(f"{'accuracy, %':20}{'scale':>8}{f'digit {FORGOTTEN}':>10}{'others':>10}")
for name, (scale, model) in shown.items():
    forgotten, others = accuracies(model, test)
    print(f"{name:20}{scale:8.2f}{100 * forgotten:10.1f}{100 * others:10.1f}")
