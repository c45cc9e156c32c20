"""The exact global threshold: `kth_magnitude` as a contender, and both sides' turns."""

import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median

import numpy as np

from benchmarks.machine import why_absent
from benchmarks.turns import Contestant, Facts, Prepared, serve, take_turns

KEPT = 0.2
"""The share of entries above the threshold."""
COLUMNS = ["numbers", "ours, s", "first call, s", "torch, s", "on", "times ours", "result"]


def compare(n: int, peers: Path, repeats: int, seed: int) -> list[Contestant]:
    """Ours, and torch's where it is installed, on the same n normal numbers in turns.

    Raises:
      AssertionError: torch finds another threshold.
    """
    numbers = np.random.default_rng([seed, n]).standard_normal(n, np.float32)
    with tempfile.NamedTemporaryFile(suffix=".npy") as file:
        np.save(file, numbers)
        file.flush()
        settings = {"file": file.name, "k": n - int(KEPT * n)}
        field = [Contestant("ours", [sys.executable, "-m", "benchmarks.threshold"], settings)]
        if not why_absent(peers, "torch"):
            command = [str(peers), "-m", "benchmarks.peers.kthvalue"]
            field.append(Contestant("torch", command, settings))
        done = take_turns(field, repeats)
    values = {one.facts["found"] for one in done if one.failure is None}
    assert len(values) <= 1, f"of {n} numbers torch and we find {values}"
    return done


def row(n: int, done: Sequence[Contestant]) -> list[str]:
    ours, *others = done
    if ours.failure is not None:
        return [f"{n:,}", f"failed: {ours.failure}", *[""] * 5]
    own = [f"{n:,}", f"{median(ours.seconds):.4f}", f"{ours.facts['first']:.3f}"]
    if not others:
        return [*own, "absent", "", "", ""]
    (torch,) = others
    if torch.failure is not None:
        return [*own, f"failed: {torch.failure}", "", "", ""]
    ratio = median(torch.seconds) / median(ours.seconds)
    return [*own, f"{median(torch.seconds):.4f}", torch.facts["device"], f"{ratio:.2f}", "equal"]


def prepare(settings: Facts) -> Prepared:
    import jax.numpy as jnp

    from magmax_jax.merging import kth_magnitude

    numbers = jnp.asarray(np.load(settings["file"])).block_until_ready()

    def find() -> float:
        return float(kth_magnitude(numbers, settings["k"]))

    start = time.perf_counter()
    found = find()
    return Prepared({"first": time.perf_counter() - start, "found": found}, find)


if __name__ == "__main__":
    serve(prepare)
