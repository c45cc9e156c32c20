"""Fake run directories with all the files that a run and its analyses write.

Accuracies are marginals of the counts, so the files of a directory are consistent.
"""

import itertools
import json
from collections.abc import Iterable
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

from magmax_jax.config import (
    CheckpointConfig,
    ExperimentConfig,
    MethodConfig,
    ScenarioConfig,
)
from magmax_jax.evaluation.counts import as_matrix, as_pairs
from magmax_jax.evaluation.rows import Row
from magmax_jax.runs.directory import RunDirectory

IMAGES = 40
"""Test images per class."""
KINDS = ("attention.qkv.kernel", "attention.out.kernel", "mlp.up.kernel", "mlp.down.kernel")
KEPT = (0.0, 0.01, 0.05, 0.1, 0.2, 0.3, 0.5, 1.0)
NAMES = "apple bear chair dolphin elm fox girl house iris jar kiwi lion moth nut oak pear".split()


def config(
    tasks: int = 5,
    seed: int = 5,
    sequential: bool = True,
    joint: bool = False,
    dataset: str = "cifar100",
    merges: tuple[str, ...] = ("max_magnitude", "average", "random_mix"),
) -> ExperimentConfig:
    return ExperimentConfig(
        scenario=ScenarioConfig(dataset=dataset, num_tasks=tasks),
        method=MethodConfig(sequential=sequential, joint=joint),
        checkpoint=CheckpointConfig(keep_tasks=True),
        merges=merges,
        seed=seed,
    )


def write(
    path: Path,
    made: ExperimentConfig,
    names: list[str] | None = None,
    domains: tuple[str, ...] = (),
    learned: int | None = None,
    rows_only: bool = False,
    same: bool = False,
) -> Path:
    """Writes a run's directory.

    Args:
      names: class names; by default three classes per task.
      learned: number of tasks so far; None means all.
      rows_only: only the files of runs from before about.json existed.
      same: every task covers all classes, so that aware accuracies repeat agnostic ones.
    """
    tasks = made.scenario.num_tasks
    names = names or [f"{NAMES[i % len(NAMES)]} {i}" for i in range(3 * tasks)]
    out = RunDirectory(path)
    out.start(made)
    rng = np.random.default_rng(made.seed)
    task_of = np.arange(len(names)) * tasks // len(names)
    rounds = 1 if made.method.joint else tasks
    if learned is not None:
        rounds = learned
    merges = () if made.method.joint else made.merges
    models = [
        ("finetuned", None),
        *((rule, 0.5 if rule == "max_magnitude" else 1.0) for rule in merges),
    ]
    evaluations = [(0, "zero_shot", None)]
    evaluated = made.evaluated_after(1 if made.method.joint else tasks)
    evaluations += [(t, *model) for t in evaluated if t <= rounds for model in models]
    for after, model, scale in evaluations:
        row = Row(after, model, scale, "agnostic", "all", 0.0, 0)
        counts = _counts(rng, made, after, model, task_of, len(domains))
        if same:
            counts |= {f"aware{end}": counts[f"agnostic{end}"] for end in ("", "_top5")}
        out.append(_rows(row, counts, domains))
        if not rows_only:
            (path / "counts").mkdir(exist_ok=True)
            save_file(counts, path / "counts" / f"{after:03d}-{row.label}.safetensors")
    _metrics(path, rng, rounds)
    if rows_only:
        return path
    _about(path, made, names, domains, task_of, same)
    if not made.method.joint and rounds == tasks:
        _sweep(path, rng, merges, rounds)
        _analysis(path, rng, made, [f"task {t + 1}" for t in range(tasks)], merges)
    return path


def with_matrices(path: Path) -> None:
    """Rewrites a run's counts as earlier versions did: the confusions as a matrix."""
    for file in (path / "counts").iterdir():
        counts = load_file(file)
        counts["confusion"] = as_matrix(counts.pop("confusions"), counts["total"].shape[-1])
        save_file(counts, file)


def _counts(rng, made, after, model, task_of, domains) -> dict[str, np.ndarray]:
    """Counts of one evaluation: learned tasks score higher, old ones fade, merges less so."""
    classes, tasks = len(task_of), int(task_of[-1]) + 1
    shape = (tasks, 1 + domains, classes)
    total = np.zeros(shape, np.uint32)
    for c, t in enumerate(task_of):
        total[t, 1:, c] = IMAGES if domains else 0
        total[t, 0, c] = 0 if domains else IMAGES
    skill = 0.45 + 0.1 * rng.random(classes)
    if made.method.joint and after:
        skill += 0.35
    elif after:
        age = after - 1 - task_of
        lost = {"finetuned": 0.07, "max_magnitude": 0.015, "average": 0.01}.get(model, 0.04)
        lost *= 1 if made.method.sequential else 1.5
        gain = {"finetuned": 0.45, "max_magnitude": 0.38, "average": 0.25}.get(model, 0.3)
        skill += np.where(age >= 0, gain - lost * np.maximum(age, 0), 0.02 * (after % 3) - 0.03)
    skill = np.clip(skill, 0.02, 0.99)
    agnostic = rng.binomial(total, skill)
    aware = agnostic + rng.binomial(total - agnostic, 0.5)
    confusion = np.zeros((classes, classes), np.int64)
    for c in range(classes):
        right = int(agnostic[..., c].sum())
        near = np.exp(-np.abs(np.arange(classes) - c) / 2)
        near[c] = 0
        confusion[c] = rng.multinomial(int(total[..., c].sum()) - right, near / near.sum())
        confusion[c, c] = right
    top5 = agnostic + rng.binomial(total - agnostic, 0.8)
    found = {
        "agnostic": agnostic,
        "aware": aware,
        "agnostic_top5": top5,
        "aware_top5": np.maximum(top5, aware),
        "total": total,
        "confusions": as_pairs(confusion),
    }
    return {name: value.astype(np.uint32) for name, value in found.items()}


def _rows(row: Row, counts: dict[str, np.ndarray], domains: Iterable[str]) -> list[Row]:
    rows = []
    for protocol in ("agnostic", "aware"):
        right, top5, total = (counts[n] for n in (protocol, f"{protocol}_top5", "total"))
        groups = {"all": (...,)}
        groups |= {f"task {t + 1}": (t,) for t in range(len(total))}
        groups |= {f"domain:{name}": (slice(None), d) for d, name in enumerate(domains, start=1)}
        for group, where in groups.items():
            count = int(total[where].sum())
            accuracy, likely = int(right[where].sum()) / count, int(top5[where].sum()) / count
            here = replace(row, protocol=protocol, group=group, accuracy=accuracy, count=count)
            rows.append(replace(here, top5=likely))
    return rows


def _metrics(path: Path, rng, rounds: int) -> None:
    lines = []
    for task, step in itertools.product(range(1, rounds + 1), range(1, 41)):
        loss = 2.2 * np.exp(-step / 15) + 0.3 + 0.1 * rng.random()
        where = {"task": task, "step": step, "total_step": 40 * (task - 1) + step}
        lines.append(where | {"loss": loss, "learning_rate": 1e-5, "seconds": 0.1})
    _write(path / "metrics.jsonl", lines)


def _about(path, made, names, domains, task_of, same) -> None:
    tasks = [
        {
            "name": f"task {t + 1}",
            "classes": np.flatnonzero((task_of == t) | same).tolist(),
            "train": 1000,
            "validation": 100,
            "test": int((task_of == t).sum()) * IMAGES,
        }
        for t in range(int(task_of[-1]) + 1)
    ]
    start = {
        "time": "2026-11-23T04:00:00+00:00",
        "command": "python -m experiments.run class --checkpoint.keep-tasks --out runs/example",
        "versions": {"python": "3.11.7", "magmax_jax": "0.1.0", "jax": "0.10.2"},
        "devices": "2 x cpu",
        "processes": 1,
    }
    about = {
        "scenario": f"{made.scenario.dataset}, class-incremental",
        "classes": names,
        "domains": list(domains),
        "tasks": tasks,
        "learned": [{"name": t["name"], "steps": 40, "images": 4000, "epochs": 2} for t in tasks],
        "models": 1 + len(made.merges),
        "published_scales": {r: 0.5 if r == "max_magnitude" else 1.0 for r in made.merges},
        "starts": [start, start | {"time": "2026-11-23T05:30:00+00:00"}],
    }
    (path / "about.json").write_text(json.dumps(about))


def _sweep(path: Path, rng, merges: Iterable[str], after: int) -> None:
    rows = []
    for rule in merges:
        scales = [round(0.1 * i, 1) for i in range(1, 16)]
        curve = {s: 0.82 - 0.3 * (s - 0.7) ** 2 - 0.02 * len(rule) / 10 for s in scales}
        validation = {s: value + 0.01 * rng.standard_normal() for s, value in curve.items()}
        best = max(validation, key=validation.get)
        for s in scales:
            for group in ("all", "task 1"):
                for protocol in ("agnostic", "aware"):
                    row = Row(
                        after, rule, s, protocol, group, validation[s], 500, split="validation"
                    )
                    test = replace(row, accuracy=curve[s], split="test", count=1000)
                    rows += [row, replace(test, chosen="validation" if s == best else None)]
    _write(path / "sweep.jsonl", map(asdict, rows))


def _analysis(path: Path, rng, made, tasks: list[str], merges: tuple[str, ...]) -> None:
    folder = path / "analysis"
    folder.mkdir()
    worse = 1.0 if made.method.sequential else 1.6
    layers = ["embedding", *(f"block {i}" for i in range(1, 5)), "head"]
    size = 10_000
    signs = []
    for t, kept, part in itertools.product(range(2, len(tasks) + 1), KEPT[1:], ("all", *KINDS)):
        if kept != 0.3:
            shared = kept * 0.9
            of_shared = min(0.9, worse * (0.2 + 0.03 * t) * (0.4 + 0.6 * kept))
            facts = {"changed": kept, "shared": shared, "conflicts": shared * of_shared}
            where = {"tasks": t, "kept": kept, "part": part, "entries": 4 * size}
            signs.append(where | facts | {"of_shared": of_shared})
    _write(folder / "signs.jsonl", signs)
    norms = [
        {
            "task": task,
            "norm": 1.0 + 0.4 * i,
            "step": 1.0 + 0.05 * rng.random(),
            "merged": 1 + 0.5 * i,
        }
        for i, task in enumerate(tasks)
    ]
    _write(folder / "norms.jsonl", norms)
    vectors = rng.standard_normal((len(tasks) + len(merges), 30)) + (0.8 if worse == 1 else 0.2)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    names = [*tasks, *merges]
    _write(
        folder / "similarity.jsonl",
        (
            {"first": names[i], "second": names[j], "cosine": float(vectors[i] @ vectors[j])}
            for i, j in itertools.product(range(len(names)), repeat=2)
        ),
    )
    provenance = []
    for layer, kind in itertools.product(layers, KINDS):
        shares = rng.dirichlet(np.linspace(1, 3, len(tasks)) * 5)
        for task, share in zip(tasks, shares, strict=True):
            place = {"rule": "max_magnitude", "task": task, "layer": layer, "kind": kind}
            supplied = int(0.98 * share * size)
            facts = {"entries": size, "supplied": supplied, "squared_norm": float(share) ** 1.5}
            provenance.append(place | facts)
    _write(folder / "provenance.jsonl", provenance)
    pruning = []
    speed = {"largest": 25, "random": 4, "smallest": 1.2}
    of = [(task, 1.0) for task in tasks] + [("max_magnitude", 0.5)]
    for (name, scale), kept, choice in itertools.product(of, KEPT, speed):
        accuracy = 0.5 + 0.4 * (1 - np.exp(-speed[choice] * kept)) / (1 - np.exp(-speed[choice]))
        group = "all" if name == "max_magnitude" else name
        for protocol in ("agnostic", "aware"):
            what = {"of": name, "scale": scale, "kept": kept, "choice": choice}
            facts = {"protocol": protocol, "group": group, "accuracy": accuracy, "count": 120}
            pruning.append(what | facts)
    _write(folder / "pruning.jsonl", pruning)
    _write(
        folder / "alignment.jsonl",
        (
            {"model": model, "scale": scale, "group": group, "cka": base + 0.05 * rng.random()}
            for model, scale, base in (("finetuned", None, 0.6), ("max_magnitude", 0.5, 0.85))
            for group in ("all", *tasks)
        ),
    )
    _write(
        folder / "contribution.jsonl",
        (
            {
                "rule": "max_magnitude",
                "scale": 0.5,
                "left_out": left,
                "protocol": "agnostic",
                "group": group,
                "accuracy": 0.8 - (0.2 if left == group else 0.04 * rng.standard_normal()),
                "with_all": 0.8,
                "count": 120,
            }
            for left, group in itertools.product(tasks, ("all", *tasks))
        ),
    )
    transfer = []
    for after, (model, scale) in itertools.product(
        range(1, len(tasks) + 1), (("finetuned", None), ("max_magnitude", 0.5))
    ):
        for data in ("tasks to come", "svhn"):
            if data == "svhn" or after < len(tasks):
                drop = 0.05 if model == "finetuned" else 0.01
                facts = {"accuracy": 0.5 - drop * after, "zero_shot": 0.5, "count": 900}
                where = {"model": model, "scale": scale, "after_task": after, "data": data}
                transfer.append(where | {"protocol": "agnostic"} | facts)
    _write(folder / "transfer.jsonl", transfer)
    costs = {"training step": 0.2, "EWC: step": 0.23, "max_magnitude: merge": 0.004}
    _write(
        folder / "overhead.jsonl",
        (
            {"what": what, "seconds": s, "steps": s / 0.2, "bytes": int(1e9 * s), "state": 4 * size}
            for what, s in costs.items()
        ),
    )


def _write(path: Path, records: Iterable[dict]) -> None:
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
