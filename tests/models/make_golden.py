"""Writes `golden.npz`: outputs of transformers' torch CLIP for the checkpoints of `weights.py`.

Run where torch is installed: `python -m tests.models.make_golden`.
"""

from pathlib import Path

import numpy as np

from tests.models.stages import torch_stages
from tests.models.weights import CONFIGS, IDS, SIZES, pixels, weights

GOLDEN = Path(__file__).parent / "golden.npz"


def main() -> None:
    import torch
    from transformers import CLIPConfig, CLIPModel

    arrays = {}
    for name, config in CONFIGS.items():
        model = CLIPModel(CLIPConfig.from_dict(config)).eval()
        tensors = {k: torch.from_numpy(np.array(v)) for k, v in weights(config).items()}
        model.load_state_dict(tensors, strict=True)
        for size in SIZES[name]:
            for stage, value in torch_stages(model, pixels(size), IDS[name]).items():
                if size == SIZES[name][0] or stage.startswith("vision") or stage == "logits":
                    arrays[f"{name}/{size}/{stage}"] = value
    np.savez_compressed(GOLDEN, **arrays)


if __name__ == "__main__":
    main()
