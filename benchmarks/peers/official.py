"""MagMax, averaging and TIES in torch, written plainly after what is published of them.

All task vectors are in memory at once, as in the official experiments: dicts of tensors for the
first two, rows of one matrix for TIES. Every model is read once.
"""

from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from benchmarks.peers.arguments import WEIGHTS, parse

Tensors = dict[str, torch.Tensor]

SCALES = {"max_magnitude": 0.5, "average": 1.0, "ties": 0.55}
KEPT = 0.2
"""The share of every task vector that TIES keeps."""


def max_magnitude(vectors: list[Tensors]) -> Tensors:
    merged = dict(vectors[0])
    for vector in vectors[1:]:
        for name, tau in vector.items():
            larger = tau.abs() >= merged[name].abs()
            merged[name] = torch.where(larger, tau, merged[name])
    return merged


def average(vectors: list[Tensors]) -> Tensors:
    share = 1 / len(vectors)
    merged = {name: tau * share for name, tau in vectors[0].items()}
    for vector in vectors[1:]:
        for name, tau in vector.items():
            merged[name] = merged[name] + tau * share
    return merged


def ties(rows: torch.Tensor) -> torch.Tensor:
    """One merged vector (d,) of the task vectors (t, d), which are trimmed in place."""
    d = rows.shape[1]
    for row in rows:
        magnitudes = row.abs()
        threshold = magnitudes.kthvalue(d - int(d * KEPT)).values
        row[magnitudes < threshold] = 0
    signs = torch.sign(rows.sum(dim=0))
    signs[signs == 0] = torch.sign(signs.sum())
    agreeing = torch.where(signs > 0, rows > 0, rows < 0)
    chosen = rows * agreeing
    counts = (chosen != 0).sum(dim=0).clamp(min=1)
    return chosen.sum(dim=0) / counts


def main() -> None:
    arguments = parse(SCALES)
    theta_0 = load_file(arguments.pretrained / WEIGHTS)
    vectors = task_vectors(theta_0, arguments.finetuned)
    if arguments.rule == "ties":
        tau = unflatten(ties(flatten(vectors, theta_0, len(arguments.finetuned))), theta_0)
    else:
        rule = {"max_magnitude": max_magnitude, "average": average}[arguments.rule]
        tau = rule(list(vectors))
    merged = {name: theta + arguments.scale * tau[name] for name, theta in theta_0.items()}
    save_file(merged, arguments.output / WEIGHTS, metadata={"format": "pt"})


def task_vectors(theta_0: Tensors, finetuned: list[Path]) -> Iterator[Tensors]:
    for path in finetuned:
        theta = load_file(path / WEIGHTS)
        yield {name: theta[name] - theta_0[name] for name in theta_0}


def flatten(vectors: Iterator[Tensors], theta_0: Tensors, tasks: int) -> torch.Tensor:
    rows = torch.empty(tasks, sum(theta.numel() for theta in theta_0.values()))
    for row, vector in zip(rows, vectors, strict=True):
        torch.cat([vector[name].reshape(-1) for name in theta_0], out=row)
    return rows


def unflatten(vector: torch.Tensor, theta_0: Tensors) -> Tensors:
    parts = vector.split([theta.numel() for theta in theta_0.values()])
    named = zip(theta_0.items(), parts, strict=True)
    return {name: part.reshape(theta.shape) for (name, theta), part in named}


if __name__ == "__main__":
    with torch.inference_mode():
        main()
