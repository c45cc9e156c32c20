"""What sequential fine-tuning forgets, what merging keeps, why, and a report of all of it."""

import subprocess
import sys
from pathlib import Path

import magmax_jax as mm
from magmax_jax.evaluation.history import histories
from magmax_jax.registry import METRICS

out = Path("runs/forgetting")
config = mm.preset(  # keeps every task's model, which the studies need
    "quickstart",
    scenario={"limit_per_class": 60, "validation": 0.0},
    train={"epochs": 8, "learning_rate": 6e-4},
    merges=["max_magnitude", "average", "ema+lda@0.7"],
    merging={"scales": None},  # only these scales
)
rows = mm.run(config, out, progress=False)

# The accuracy on each task after each task, from the rows of results.jsonl.
found = histories(rows, "agnostic")
models = ("finetuned", "max_magnitude@0.5", "average@1", "ema+lda@0.7")
for label in models[:2]:
    print(f"{label}: accuracy on tasks 1 to 5 (columns), after 0 to 5 tasks (rows), %")
    for line in found[label].accuracy:
        print("".join(f"{100 * accuracy:7.1f}" for accuracy in line))
for name in ("last_accuracy", "forgetting", "backward_transfer"):
    metric = METRICS[name]
    values = {label: 100 * metric.function(found[label], weighted=False) for label in models}
    shown = ", ".join(f"{label} {value:.1f}" for label, value in values.items())
    print(f"{metric.heading}: {shown}")

# Why: do the tasks disagree on the sign of a change, and which task supplied the merged entries?
studies = ("--only", "signs", "provenance")
subprocess.run([sys.executable, "-m", "magmax_jax", "analyse", out, *studies], check=True)
print("the report:", mm.report(out))
