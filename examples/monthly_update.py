"""A deployed CLIP learns new classes every month; a state file replaces all earlier models.

Each month fine-tunes the last fine-tuned model on that month's images alone, folds the result into
the state, and deploys the merged model. Here a month brings a few digits.
"""

import subprocess
import sys
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits

import magmax_jax as mm

MONTHS = {"january": (0, 1, 2, 3), "february": (4, 5, 6), "march": (7, 8, 9)}
TEMPLATE = 'a photo of the number: "{}".'

digits = load_digits()
images = np.round(digits.images * (255 / 16)).astype(np.uint8)
tested = np.arange(len(images)) % 5 == 0
out, state = Path("runs/monthly"), Path("runs/monthly/clip.state")


def source(labels, where):
    """The images of some digits, whose names are all the names that the model is trained with."""
    chosen = np.flatnonzero(np.isin(digits.target, labels) & where)[:200]
    names = [str(label) for label in labels]
    return mm.Source(images[chosen], np.searchsorted(labels, digits.target[chosen]), names)


def magmax(*words):
    subprocess.run([sys.executable, "-m", "magmax_jax", *map(str, words)], check=True)


theta_0 = mm.preset("quickstart").model.source  # the bundled small CLIP
last = theta_0
for month, labels in MONTHS.items():
    config = mm.preset("quickstart", model={"source": str(last)}, merges=[], train={"epochs": 2})
    scenario = {"num_tasks": 1, "validation": 0, "templates": [TEMPLATE]}
    config = config.replace(scenario=scenario, merging={"scales": None})
    test = source(labels, tested)
    mm.run(config, out / month, train=source(labels, ~tested), test=test, progress=False)
    last = mm.export(out / month, out / f"tuned-{month}")

    base = ("--pretrained", theta_0) if not state.exists() else ()
    deployed = out / f"deployed-{month}"
    magmax("merge", *base, "--finetuned", last, "--state", state, "--output", deployed, "--quiet")

magmax("inspect", state)
everything = source(tuple(range(10)), tested)
models = {"pretrained": theta_0, "last fine-tuned": str(last), "deployed": str(deployed)}
scenario = mm.config.ScenarioConfig(dataset="digits", num_tasks=1, templates=(TEMPLATE,))
rows = mm.evaluate(models, scenario=scenario, test=everything, progress=False)
for row in rows:
    if (row.protocol, row.group) == ("agnostic", "all"):
        print(f"{row.model:16} {100 * row.accuracy:5.1f} % of all ten digits")
