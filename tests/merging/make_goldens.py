"""Makes goldens.npz: merges of random task vectors by peft and mergekit.

Their pinned dependencies differ from this project's, so they need a separate environment:

    python -m venv peers
    peers/bin/pip install torch==2.13.0 peft==0.21.2 mergekit==0.1.5
    peers/bin/python tests/merging/make_goldens.py
"""

from pathlib import Path

import numpy as np

DENSITY = 0.25


def task_vectors() -> np.ndarray:
    """(3, 20, 9); two entries, both above the threshold, cancel exactly between tasks."""
    taus = np.random.default_rng(7).normal(size=(3, 20, 9)).astype(np.float32)
    taus[:, 0, 0] = 9, -9, 0
    taus[:, 1, 1] = 0, 7, -7
    return taus


def by_peft(taus: np.ndarray) -> dict[str, np.ndarray]:
    import torch
    from peft.utils.merge_utils import magnitude_prune, ties

    tensors, weights = [torch.from_numpy(tau) for tau in taus], torch.ones(len(taus))
    return {
        "peft_ties_mass": ties(tensors, weights, DENSITY, "total").numpy(),
        "peft_ties_count": ties(tensors, weights, DENSITY, "frequency").numpy(),
        "peft_magnitude_prune": magnitude_prune(tensors, weights, DENSITY).numpy(),
    }


def by_mergekit(taus: np.ndarray) -> dict[str, np.ndarray]:
    import torch
    from mergekit.merge_methods import registry
    from mergekit.merge_methods.base import TensorGroup

    base = torch.zeros(taus.shape[1:])
    group = TensorGroup.from_tensors([base, *map(torch.from_numpy, taus)], base_index=0)
    ids = [entry.id for entry in group.non_base]
    merged = registry.get("ties").merge_group(
        group,
        int8_mask=False,
        normalize=True,
        rescale=False,
        weight=dict.fromkeys(ids, 1.0),
        density=dict.fromkeys(ids, DENSITY),
        **{"lambda": 1.0},
    )
    return {"mergekit_ties": merged.numpy()}


def main() -> None:
    taus = task_vectors()
    np.savez_compressed(
        Path(__file__).with_name("goldens.npz"),
        taus=taus,
        density=DENSITY,
        **by_peft(taus),
        **by_mergekit(taus),
    )


if __name__ == "__main__":
    main()
