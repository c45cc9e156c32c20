"""The cost of merging, compared with training and with the baselines."""

import inspect
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import islice
from typing import Any

import jax
import jax.numpy as jnp

from magmax_jax.analysis import measure
from magmax_jax.config import MethodConfig
from magmax_jax.data import num_batches
from magmax_jax.merging import MergeRule, apply_task_vector, rules
from magmax_jax.merging.rule import State, informed
from magmax_jax.merging.task_vectors import PyTree, tree_bytes
from magmax_jax.registry import REGULARIZERS, RULES
from magmax_jax.runs.studies.subject import Record, Subject
from magmax_jax.training import Params, build_regularizer, make_trainer

TASKS = 8
"""Most task vectors that rules are timed on: collecting rules hold them all."""
REPEATS = 3


def overhead(subject: Subject) -> Iterator[Record]:
    """Seconds and bytes of a training step, plain and with every regularizer, and of every rule.

    A rule's update is the cost of one more task, its merge the cost of one more model. If a
    regularizer consolidates with another pass over a task's images, a few batches of it are timed.
    Bytes are the compiled program's temporary arrays and results; `state` is what is kept from
    task to task.
    """
    step = None
    for record in (*_steps(subject), *_rules(subject)):
        step = step or record["seconds"]
        yield record | {"steps": record["seconds"] / step}


def _steps(subject: Subject) -> Iterator[Record]:
    parts = subject.parts
    config = replace(parts.config.train, workers=0)
    task = min(2, len(parts.tasks))  # baselines remember the first
    objective = parts.objective(task)
    few = [parts.trainer.place(batch) for batch in islice(parts.train_batches(task, 1), 3)]
    for name, spec in REGULARIZERS.items():
        # If no strength is published, use any: it does not affect the cost.
        chosen = not spec.is_plain and spec.strength is None
        method = MethodConfig(regularizer=name, strength=1.0 if chosen else None)
        if name == parts.config.method.regularizer and not spec.is_plain:
            method = parts.config.method  # its options may affect the cost
        regularizer = build_regularizer(
            method, parts.tower, parts.preprocessing, parts.scenario.num_classes, parts.layout
        )
        trainer = make_trainer(
            parts.tower, parts.preprocessing, config, regularizer.penalty, layout=parts.layout
        )
        memory = parts.layout.params(regularizer.init(parts.theta_0))
        memory = regularizer.consolidate(memory, parts.theta_0, few, parts.objective(1))
        state = trainer.init(parts.theta_0)
        cost = measure(trainer.step, state, few[0], objective, memory, repeats=REPEATS)
        title = "training step" if spec.is_plain else f"{spec.title}: step"
        yield _record(title, cost.seconds, cost.nbytes, memory)
        if spec.passes_per_task:
            start = time.perf_counter()
            again = regularizer.consolidate(memory, parts.theta_0, few, parts.objective(1))
            jax.block_until_ready(again)
            seconds = (time.perf_counter() - start) / len(few)
            images = spec.images_once(method, len(parts.tasks[task - 1].train))
            batches = num_batches(images, config.batch_size)
            yield _record(f"{spec.title}: consolidation", seconds * batches, None, memory)


def _rules(subject: Subject) -> Iterator[Record]:
    """Every rule, including the run's own, on one task vector per task, at most `TASKS`."""
    theta_0 = subject.parts.theta_0
    count = min(subject.learned, TASKS)
    own = (name for name in subject.parts.merges if RULES.names_code(name))
    for name in (*rules.RULES, *own):
        rule = _rule(name, count)
        taus = list(_task_vectors(rule, theta_0, count))
        state = rule.init(theta_0)
        for tau in taus[:-1]:
            state = rule.update(state, tau)
        if rule.streaming:
            # Its own jitted copy, because only `fold` may donate a rule's state.
            update = jax.jit(rule.update, donate_argnums=0)
            cost = measure(update, state, taus[-1], repeats=REPEATS)
            state = rule.update(state, taus[-1])
            yield _record(f"{name}: update", cost.seconds, cost.nbytes, state)
        else:
            state = rule.update(state, taus[-1])
        cost = measure(_merge(rule, theta_0), state, repeats=REPEATS)
        yield _record(f"{name}: merge", cost.seconds, cost.nbytes, state)


def _rule(name: str, tasks: int) -> MergeRule:
    """The rule, with a 1 per task for per-task values that have no default."""
    needed: dict[str, Any] = {
        option: (1.0,) * tasks
        for option, default in rules.options(name).items()
        if default is inspect.Parameter.empty and rules.takes_several(name, option)
    }
    return rules.named(name, **needed)


def _task_vectors(rule: MergeRule, theta_0: Params, count: int) -> Iterator[PyTree]:
    """`count` task vectors, or as many as the rule takes."""
    count = max(count, rule.fewest_models)
    if rule.most_models is not None:
        count = min(count, rule.most_models)
    # The values do not affect a rule's cost, so noise stands in for task vectors that were not
    # kept.
    for number in range(1, count + 1):
        tau = _noise(theta_0, number)
        yield informed(rule, tau, jax.tree.map(jnp.ones_like, tau))


def _merge(rule: MergeRule, theta_0: Params) -> Callable[[State], Params]:
    return jax.jit(lambda state: apply_task_vector(theta_0, rule.finalize(state), 0.5))


@jax.jit
def _noise(theta_0: Params, number: int) -> Params:
    def draw(leaf: jax.Array) -> jax.Array:
        key = jax.random.fold_in(jax.random.key(number), leaf.size)
        return 1e-3 * jax.random.normal(key, leaf.shape)

    return jax.tree.map(draw, theta_0)


def _record(what: str, seconds: float, nbytes: int | None, state: PyTree) -> Record:
    return {"what": what, "seconds": seconds, "bytes": nbytes, "state": tree_bytes(state)}
