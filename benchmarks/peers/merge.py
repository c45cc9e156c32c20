"""Peers that merge files: the published algorithms in torch, fusion_bench and mergekit.

python -m benchmarks.peers.merge PEER RULE OUTPUT PRETRAINED FINETUNED...

All arguments except RULE and PEER are directories. Each peer's imports are lazy.
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

WEIGHTS = "model.safetensors"
SCALES = {"max_magnitude": 0.5, "average": 1.0, "ties": 0.55}
KEPT = 0.2
"""The share of every task vector that TIES keeps."""


def official(rule: str, output: Path, pretrained: Path, finetuned: Sequence[Path]) -> None:
    """A plain version of the published code. As in the official experiments, all task vectors are
    in memory at once: dicts of tensors, or rows of one matrix for TIES. Every model is read
    once."""
    import torch
    from safetensors.torch import load_file, save_file

    theta_0 = load_file(pretrained / WEIGHTS)

    def vector(path: Path) -> dict[str, Any]:
        theta = load_file(path / WEIGHTS)
        return {name: theta[name] - theta_0[name] for name in theta_0}

    with torch.inference_mode():
        if rule == "ties":
            sizes = [theta.numel() for theta in theta_0.values()]
            rows = torch.empty(len(finetuned), sum(sizes))
            for row, path in zip(rows, finetuned, strict=True):
                torch.cat([tau.reshape(-1) for tau in vector(path).values()], out=row)
            parts = zip(theta_0.items(), ties(rows).split(sizes), strict=True)
            merged = {name: part.reshape(theta.shape) for (name, theta), part in parts}
        else:
            merged, *others = map(vector, finetuned)
            share = 1 / len(finetuned)
            if rule == "average":
                merged = {name: tau * share for name, tau in merged.items()}
            for other in others:
                for name, tau in other.items():
                    if rule == "average":
                        merged[name] = merged[name] + tau * share
                    else:
                        larger = tau.abs() >= merged[name].abs()
                        merged[name] = torch.where(larger, tau, merged[name])
        theta = {name: theta + SCALES[rule] * merged[name] for name, theta in theta_0.items()}
        save_file(theta, output / WEIGHTS, metadata={"format": "pt"})


def ties(rows: Any) -> Any:
    """Merges task vectors (t, d) into one (d,); trims them in place."""
    import torch

    d = rows.shape[1]
    for row in rows:
        magnitudes = row.abs()
        threshold = magnitudes.kthvalue(d - int(d * KEPT)).values
        row[magnitudes < threshold] = 0
    signs = torch.sign(rows.sum(dim=0))
    signs[signs == 0] = torch.sign(signs.sum())
    chosen = rows * torch.where(signs > 0, rows > 0, rows < 0)
    return chosen.sum(dim=0) / (chosen != 0).sum(dim=0).clamp(min=1)


def fusion_bench(rule: str, output: Path, pretrained: Path, finetuned: Sequence[Path]) -> None:
    """Its algorithms, through its public classes. The pool loads models with transformers'
    `from_pretrained`; its `LazyStateDict`, which opens a file for every tensor, was slower here."""
    from fusion_bench import method
    from fusion_bench.modelpool import BaseModelPool

    paths = {"_pretrained_": pretrained} | {f"task_{t}": p for t, p in enumerate(finetuned, 1)}
    key, load = "pretrained_model_name_or_path", "transformers.CLIPModel.from_pretrained"
    pool = BaseModelPool({name: {"_target_": load, key: str(path)} for name, path in paths.items()})
    algorithm = {
        "max_magnitude": lambda: method.MagMaxAlgorithm(scaling_factor=SCALES[rule]),
        "iso_c": lambda: method.ISO_C_Merge(scaling_factor=1.0),
        "tsv_m": lambda: method.TaskSingularVectorMerging(),
        "opcm": lambda: method.OPCMForCLIP(0.5, shuffle_order=False, save_on_every_step=False),
    }[rule]()
    # OPCM expects a task pool with test sets; here it evaluates none.
    algorithm._program = SimpleNamespace(taskpool=SimpleNamespace(_test_datasets=None))
    algorithm.run(pool).save_pretrained(output)


def mergekit(rule: str, output: Path, pretrained: Path, finetuned: Sequence[Path]) -> None:
    """Its command `mergekit-pytorch`, or `mergekit-yaml` for sharded models, with a configuration
    made here."""
    from mergekit.scripts.merge_raw_pytorch import main as mergekit_pytorch
    from mergekit.scripts.run_yaml import main as mergekit_yaml

    sharded = not (pretrained / WEIGHTS).exists()

    def called(path: Path) -> str:
        return str(path if sharded else path / WEIGHTS)

    models = [{"model": called(path)} for path in finetuned]
    config = {"models": models, "merge_method": "linear"}
    config["dtype"] = "bfloat16" if sharded else "float32"
    config["parameters"] = {"weight": 1.0}
    if rule == "ties":
        config |= {"merge_method": "ties", "base_model": called(pretrained)}
        config["parameters"] |= {"density": KEPT, "lambda": SCALES[rule]}
    path = output.with_suffix(".yaml")
    path.write_text(json.dumps(config))  # JSON is YAML
    if sharded:
        mergekit_yaml([str(path), str(output), "--no-copy-tokenizer"])
    else:
        mergekit_pytorch([str(path), str(output)])


if __name__ == "__main__":
    peer = {"official": official, "fusion_bench": fusion_bench, "mergekit": mergekit}[sys.argv[1]]
    output, pretrained, *finetuned = map(Path, sys.argv[3:])
    output.mkdir(parents=True, exist_ok=True)
    peer(sys.argv[2], output, pretrained, finetuned)
