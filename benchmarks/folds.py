"""A contender that measures copies of an image tower's parameters, and folds and merges of them."""

from typing import Any

from benchmarks.limits import copies, in_place, seconds
from benchmarks.shapes import SIZES
from benchmarks.turns import Facts, Prepared, serve
from benchmarks.workloads import image_tower
from magmax_jax.merging import fold, merged, rules
from magmax_jax.merging.task_vectors import tree_bytes

ELEMENTWISE = ("max_magnitude", "average")
COPY, FOLD, MERGED = 2, 4, 3
"""Passes over the parameters. A fold reads the state, theta_t and theta_0 and writes the state; a
merge reads the state and theta_0 and writes theta."""


def prepare(settings: Facts) -> Prepared:
    """Of `settings["size"]`, each time `repeats` times: what it does in one call."""
    found: list[Facts] = []

    def call() -> None:
        found[:] = measured(settings["size"], settings["repeats"], settings["seed"])

    return Prepared({}, call, lambda: {"timings": found})


def measured(size: str, repeats: int, seed: int) -> list[Facts]:
    """Each with its name, bytes moved and every time: those of copies first."""
    theta_0, theta_1 = (
        image_tower(SIZES[size].model, "float32", seed=2 * seed + t)[1] for t in (0, 1)
    )
    nbytes = tree_bytes(theta_0)

    def told(name: str, passes: int, taken: list[float]) -> Facts:
        return {"name": name, "moved": passes * nbytes, "seconds": taken, "copies": passes == COPY}

    found = [told(name, COPY, taken) for name, taken in copies(theta_0, repeats).items()]
    for name in ELEMENTWISE:
        rule = rules.named(name)
        step = in_place(_folding(rule, theta_1, theta_0), rule.init(theta_0))
        found.append(told(f"fold, {name}", FOLD, seconds(step, repeats)))
        state = step()
        taken = seconds(lambda rule=rule, state=state: merged(rule, state, theta_0, 0.5), repeats)
        found.append(told(f"theta_0 + scale tau, {name}", MERGED, taken))
    return found


def _folding(rule: rules.MergeRule, theta_1: Any, theta_0: Any):
    return lambda state: fold(rule, state, theta_1, theta_0)


if __name__ == "__main__":
    serve(prepare)
