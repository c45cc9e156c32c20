"""A whole experiment: the composition of everything else."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from magmax_jax import evaluation, report
from magmax_jax.checkpoints import Checkpoints
from magmax_jax.config import ExperimentConfig
from magmax_jax.data import Batch, Preprocessing, eval_batches, num_batches, train_batches
from magmax_jax.errors import DivergedError, UserError
from magmax_jax.merging import MergeRule, fold, merged, rules
from magmax_jax.models import CLIP, zero_shot_head
from magmax_jax.progress import Silent
from magmax_jax.results import Row, RunDirectory
from magmax_jax.scenarios import Scenario, build_scenario
from magmax_jax.sharding import Layout, build_layout
from magmax_jax.training import Objective, Trainer, fine_tune, make_trainer, warmup_steps

CACHED_BYTES = 1 << 30
"""A test set whose images take no more than this stays in memory between evaluations."""


def run(config: ExperimentConfig, out: RunDirectory, progress: Silent | None = None) -> list[Row]:
    """Learns the scenario's tasks one after another, merging and evaluating after each.

    Writes `config.json`, `results.jsonl`, `checkpoints/` and `report/accuracy.png` into `out`. A
    run of the same configuration that is complete there is shown again; an interrupted one starts
    anew. Of several processes that run it together, on a disk that all of them see, the first one
    writes, and shows its progress.

    Returns:
      the rows of `results.jsonl`.

    Raises:
      UserError: the configuration does not fit the devices, data, model or directory.
      DivergedError: a loss is not finite; rows and checkpoint of the tasks before it stay.
    """
    progress = progress or Silent()
    merges = parse_merges(config.merges, config.seed)
    layout = build_layout(config)
    if not layout.is_first:
        out, progress = RunDirectory(out.path, out.overwrite, writes=False), Silent()
    kept = out.holds(config)
    scenario = build_scenario(config.scenario, config.seed)
    models = 1 + sum(len(merge.scales) for merge in merges.values())
    done = kept and len(out.rows()) == evaluation.num_rows(scenario, models)
    layout.meet("the configuration or what the directory holds", (config, done))
    if done:
        progress.say(f"{out.path} holds this run already (--overwrite repeats it)")
    else:
        learn_all(config, scenario, merges, layout, out, progress)
    layout.meet("the end")  # by which all rows are written
    rows = out.rows()
    if out.writes:
        report.plot(rows, scenario.name, out.report / "accuracy.png")
    progress.say(report.table(rows, scenario.name))
    progress.say(f"{out.report / 'accuracy.png'} shows accuracy over tasks")
    return rows


def learn_all(
    config: ExperimentConfig,
    scenario: Scenario,
    merges: dict[str, "Merge"],
    layout: Layout,
    out: RunDirectory,
    progress: Silent,
) -> None:
    """The loop that MagMax is: fine-tune, fold into every merge, evaluate; next task."""
    model = CLIP.from_pretrained(config.model.source, config.model.image_size)
    size = model.config.vision.image_size
    preprocessing = Preprocessing.from_config(model.preprocessor or {}, size)
    head = layout.replicate(zero_shot_head(model, scenario.class_names, scenario.templates))
    tower, theta_0 = model.image_tower(config.model.dtype, config.train.remat, layout.whole)
    theta_0 = layout.params(theta_0)
    del model  # the text tower has done its work

    trainer = make_trainer(tower, preprocessing, config.train, layout)
    evaluate = evaluation.make_evaluate(tower, preprocessing, head, scenario, layout)
    batches = test_batches(config, scenario, size, layout)
    num_test_batches = num_batches(scenario.num_test, config.eval_batch_size)
    out.start(config)
    progress.say(describe(scenario))

    def record(after_task: int, name: str, scale: float | None, params: nnx.State) -> None:
        counts = evaluate(params, progress.evaluating(name, batches, num_test_batches))
        rows = list(evaluation.rows(counts, scenario, after_task, name, scale))
        out.append(rows)
        progress.say(f"  {rows[0].label:<24} {rows[0].accuracy:.1%}")

    record(0, "zero_shot", None, theta_0)
    theta = theta_0
    states = {name: layout.params(merge.rule.init(theta_0)) for name, merge in merges.items()}
    with Checkpoints(out.checkpoints) as checkpoints:
        for number in range(1, len(scenario.tasks) + 1):
            start = theta if config.method.sequential else theta_0
            theta = learn(config, scenario, number, trainer, start, head, size, layout, progress)
            record(number, "finetuned", None, theta)
            for name, (rule, scales) in merges.items():
                states[name] = fold(rule, states[name], theta, theta_0)
                for scale in scales:
                    record(number, name, scale, merged(rule, states[name], theta_0, scale))
            checkpoints.save(number, {"finetuned": theta, "merges": states})


def learn(
    config: ExperimentConfig,
    scenario: Scenario,
    number: int,
    trainer: Trainer,
    start: nnx.State,
    head: jax.Array,
    size: int,
    layout: Layout,
    progress: Silent,
) -> nnx.State:
    """Fine-tunes `start` on task `number` (from 1) and returns theta_t."""
    task, recipe = scenario.tasks[number - 1], config.train
    steps = num_batches(len(task.train), recipe.batch_size, recipe.epochs)
    key = jax.random.fold_in(jax.random.key(config.seed), number)
    objective = Objective(
        head,
        jnp.asarray(scenario.class_masks[number - 1]),
        jnp.int32(warmup_steps(recipe, steps)),
        jnp.int32(steps),
        key,
    )
    batches = train_batches(
        scenario.train,
        task.train,
        recipe.batch_size,
        recipe.epochs,
        seed=int(jax.random.bits(key)),
        size=size,
        workers=recipe.workers,
        rows=layout.rows(recipe.batch_size),
    )
    name = f"{task.name} ({number}/{len(scenario.tasks)})"
    with progress.training(name, steps, len(task.train) * recipe.epochs) as on_step:
        try:
            return fine_tune(trainer, start, layout.replicate(objective), batches, on_step)
        except DivergedError as error:
            raise DivergedError(f"{name}: {error}") from None


class Merge(NamedTuple):
    """A rule and the scales at which its one state is evaluated."""

    rule: MergeRule
    scales: list[float]


def parse_merges(texts: Sequence[str], seed: int) -> dict[str, Merge]:
    """`RULE` and `RULE@SCALE` as rules by name, in the order of first mention.

    Raises:
      UserError: a rule is unknown, or a scale is no number.
    """
    merges: dict[str, Merge] = {}
    for text in texts:
        name, at, number = text.partition("@")
        merge = merges.setdefault(name, Merge(rules.named(name, seed), []))
        try:
            scale = float(number) if at else merge.rule.default_scale
        except ValueError:
            raise UserError(f"merges: {text!r} needs a number behind the @") from None
        if not np.isfinite(scale):
            raise UserError(f"merges: the scale of {text!r} is not finite")
        if scale not in merge.scales:
            merge.scales.append(scale)
    return merges


def test_batches(
    config: ExperimentConfig, scenario: Scenario, size: int, layout: Layout
) -> Iterable[Batch]:
    """Every test image once, in memory when all of them are small."""
    batches = eval_batches(
        scenario.test,
        np.flatnonzero(scenario.task_of >= 0),
        config.eval_batch_size,
        size,
        config.train.workers,
        layout.rows(config.eval_batch_size),
    )
    height, width = scenario.test.image_shape or (size, size)
    return list(batches) if 3 * height * width * scenario.num_test <= CACHED_BYTES else batches


def describe(scenario: Scenario) -> str:
    """What is about to be learned, in a line."""
    train = sum(len(task.train) for task in scenario.tasks)
    return (
        f"{scenario.name}: {len(scenario.tasks)} tasks, {len(scenario.class_names)} classes, "
        f"{train:,} training and {scenario.num_test:,} test images; accuracies among all classes"
    )
