"""Accuracy of models with a part removed, and on data that no task trained on."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from magmax_jax.analysis import keep
from magmax_jax.analysis.pruning import Choice
from magmax_jax.evaluation.counts import Counts
from magmax_jax.evaluation.rows import Row, num_rows_of_one, rows_of
from magmax_jax.merging import apply_task_vector, fold, merged, rules
from magmax_jax.merging.rule import informed
from magmax_jax.runs.build import build_run
from magmax_jax.runs.evaluation_set import EvaluationSet
from magmax_jax.runs.studies.subject import Record, Subject, Unsuited
from magmax_jax.training import Params

KEPT = (0.0, 0.01, 0.05, 0.1, 0.2, 0.3, 0.5, 1.0)
"""Shares of a task vector's entries that are kept."""
CHOICES: tuple[Choice, ...] = ("largest", "random", "smallest")
RULE = "max_magnitude"
"""The rule that merges pruned task vectors: the paper's, at its scale of 0.5."""


def pruning(subject: Subject) -> Iterator[Record]:
    """Accuracy when a share of every task vector is kept: its largest, smallest or random entries.

    Each theta_0 + kept tau_t is evaluated on its own task's test images, the merge of all of them
    on all test images.
    """
    subject.check_tasks()
    parts = subject.parts
    rule = rules.named(RULE)
    for number, name in enumerate(subject.names, start=1):
        tau, images = subject.tau(number), parts.test_of(number) if _apart(subject) else parts.test
        for share, choice, record in _kept():
            pruned = apply_task_vector(parts.theta_0, keep(tau, share, choice, number))
            counts = subject.count(images, pruned, f"{name}, {choice} {share:.0%}")
            yield from _accuracies({"of": name, "scale": 1.0, **record}, counts, number)
    for share, choice, record in _kept():
        state = rule.init(parts.theta_0)
        for number in range(1, subject.learned + 1):
            state = rule.update(state, keep(subject.tau(number), share, choice, number))
        theta = merged(rule, state, parts.theta_0, rule.default_scale)
        counts = subject.count(parts.test, theta, f"{RULE}, {choice} {share:.0%}")
        yield from _accuracies({"of": RULE, "scale": rule.default_scale, **record}, counts)


def contribution(subject: Subject) -> Iterator[Record]:
    """Accuracy on every task when one task is left out of the merge.

    Only its own task vector is left out: later tasks that started from it, or from a merge with it,
    are unchanged.
    """
    subject.check_tasks()
    parts, names = subject.parts, subject.names
    if len(names) < 2:
        raise Unsuited("one task is learned, and nothing would be left of the merge without it")
    rows = [row for row in subject.rows if row.after_task == subject.learned]
    rows = rows or list(_of_merges(subject))
    known = {(row.label, row.protocol, row.group): row.accuracy for row in rows}
    merges = {rule: merge for rule, merge in parts.merges.items() if merge.scales}
    for left_out, name in enumerate(names, start=1):
        states = {rule: merge.rule.init(parts.theta_0) for rule, merge in merges.items()}
        for number in range(1, subject.learned + 1):
            if number != left_out:
                theta = subject.stored.task(number)
                moments = subject.stored.moments(number, merges)
                for rule, merge in merges.items():
                    model = informed(merge.rule, theta, moments)
                    states[rule] = fold(merge.rule, states[rule], model, parts.theta_0)
        for rule, merge in merges.items():
            for scale in merge.scales:
                theta = merged(merge.rule, states[rule], parts.theta_0, scale)
                counts = subject.count(parts.test, theta, f"{rule} without {name}")
                for row in rows_of(counts, parts.scenario, subject.learned, rule, scale):
                    if row.group == "all" or row.group in names:
                        yield {
                            "rule": rule,
                            "scale": scale,
                            "left_out": name,
                            "protocol": row.protocol,
                            "group": row.group,
                            "accuracy": row.accuracy,
                            "with_all": known.get((row.label, row.protocol, row.group)),
                            "count": row.count,
                        }


def _of_merges(subject: Subject) -> Iterator[Row]:
    """Rows of every merge, for runs not evaluated after the last task learned so far."""
    for name, scale, params in subject.models():
        if scale is not None:
            counts = subject.count(subject.parts.test, params, name)
            yield from rows_of(counts, subject.parts.scenario, subject.learned, name, scale)


def transfer(subject: Subject) -> Iterator[Record]:
    """Accuracy on data that no task trained on, next to the pretrained model's.

    After every task, on the tasks to come; after the last one, on the test images of other data
    sets, with heads made from their own class names.
    """
    yield from _to_come(subject)
    for name, scenario in subject.others.items():
        config = replace(subject.parts.config, merges=())
        images = build_run(config, scenario, subject.parts.layout).test

        def accuracies(params: Params, shown: str, images: EvaluationSet = images) -> list[float]:
            counts = subject.count(images, params, shown)
            return [_share(counts, protocol) for protocol in ("agnostic", "aware")]

        zero_shot = accuracies(subject.parts.theta_0, f"zero_shot on {name}")
        for model, scale, params in subject.models():
            found = accuracies(params, f"{model} on {name}")
            yield {
                "model": model,
                "scale": scale,
                "after_task": subject.learned,
                "data": name,
                "protocol": "agnostic",
                "accuracy": found[0],
                "zero_shot": zero_shot[0],
                "count": scenario.num_test,
            }


def _to_come(subject: Subject) -> Iterator[Record]:
    """Computed from the rows: every evaluation covers the test images of all tasks."""
    scenario = subject.parts.scenario
    tasks = [task.name for task in scenario.tasks]
    found = {
        (row.after_task, row.label, row.protocol, row.group): row
        for row in subject.rows
        if row.split == "test"
    }
    whole = Counter((row.after_task, row.label) for row in subject.rows)
    evaluated = dict.fromkeys(
        (row.after_task, row.label, row.model, row.scale, row.protocol)
        for row in subject.rows
        if 0 < row.after_task < len(subject.parts.tasks)
        and whole[row.after_task, row.label] == num_rows_of_one(scenario)
    )
    for after, label, model, scale, protocol in evaluated:
        rows = [found[after, label, protocol, task] for task in tasks[after:]]
        before = [found[0, "zero_shot", protocol, task] for task in tasks[after:]]
        counts = [row.count for row in rows]
        yield {
            "model": model,
            "scale": scale,
            "after_task": after,
            "data": "tasks to come",
            "protocol": protocol,
            "accuracy": float(np.average([row.accuracy for row in rows], weights=counts)),
            "zero_shot": float(np.average([row.accuracy for row in before], weights=counts)),
            "count": sum(counts),
        }


def _apart(subject: Subject) -> bool:
    """Whether the scenario's tasks are learned one by one, not jointly."""
    return not subject.parts.config.method.joint


def _kept() -> Iterator[tuple[float, Choice, Record]]:
    """Shares and choices; for shares 0 and 1 the choice does not matter."""
    for share in KEPT:
        for choice in CHOICES if 0 < share < 1 else CHOICES[:1]:
            yield share, choice, {"kept": share, "choice": choice}


def _accuracies(record: Record, counts: Counts, task: int | None = None) -> Iterator[Record]:
    for protocol in ("agnostic", "aware"):
        yield record | {
            "protocol": protocol,
            "group": "all" if task is None else record["of"],
            "accuracy": _share(counts, protocol),
            "count": int(counts.total.sum()),
        }


def _share(counts: Counts, protocol: str) -> float:
    return float(getattr(counts, protocol).sum() / counts.total.sum())
