"""The parts of a run: data, model and compiled functions, built once."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import grain
import jax
import numpy as np
from flax import nnx

from magmax_jax.config import ExperimentConfig
from magmax_jax.data import (
    Batch,
    Preprocessing,
    num_batches,
    train_batches,
)
from magmax_jax.data.pipeline.memory_cache import cached
from magmax_jax.inputs.geometry import CLIPS
from magmax_jax.models import (
    Model,
    ModelShape,
    from_pretrained,
    num_entries,
    preprocessing_of,
    trainable,
)
from magmax_jax.registry import REGULARIZERS
from magmax_jax.runs.alike_prompts import alike_prompts
from magmax_jax.runs.default_preprocessing import default_preprocessing
from magmax_jax.runs.evaluation_set import (
    EvaluationSet,
    batches_of,
    eval_batch_size,
    evaluation_set,
)
from magmax_jax.runs.kept_head import head_of
from magmax_jax.runs.merge_specs import Merge, Refitted, parse_merges, parse_refits
from magmax_jax.scenarios import Scenario, Task, curriculum, validating
from magmax_jax.sharding import Layout
from magmax_jax.training import (
    Objective,
    Params,
    Regularizer,
    Trainer,
    build_regularizer,
    make_trainer,
    warmup_steps,
)


@dataclass(frozen=True)
class RunParts:
    """A run's parts. Tasks are counted from 1."""

    config: ExperimentConfig
    scenario: Scenario
    tasks: tuple[Task, ...]
    """Learned in this order."""
    merges: dict[str, Merge]
    refits: dict[str, Refitted]
    shape: ModelShape
    """From theta_0's configuration."""
    clip_entries: int
    """Number of parameters in both towers."""
    layout: Layout
    theta_0: Params
    head: jax.Array
    """float32 (p, k)."""
    head_from: str
    """What the head was made from (`KeptHead.made_from`)."""
    tower: nnx.GraphDef
    """The image tower without its parameters."""
    preprocessing: Preprocessing
    trainer: Trainer
    regularizer: Regularizer
    test: EvaluationSet
    """The test images of all tasks."""
    eval_batch_size: int
    """Images per batch in every evaluation."""

    def test_of(self, task: int) -> EvaluationSet:
        """The test images of one of the scenario's tasks."""
        indices = self.scenario.tasks[task - 1].test
        rows, kind = self.eval_batch_size, self.preprocessing
        source = self.scenario.test
        batches = batches_of(self.config, source, indices, rows, kind, self.layout)
        count = num_batches(len(indices), rows)
        return self.test._replace(batches=batches, num_batches=count)

    def validation(self) -> EvaluationSet | None:
        """The images that the tasks hold out; None if they hold out none."""
        scenario = validating(self.scenario)
        if not scenario.num_test:
            return None
        model = self.tower, self.preprocessing, self.head
        return evaluation_set(self.config, scenario, self.eval_batch_size, *model, self.layout)

    def epochs(self, task: int) -> int:
        """Passes over one task's training images."""
        return self.config.train.epochs or self.tasks[task - 1].epochs

    def steps(self, task: int) -> int:
        """Steps of fine-tuning on one task."""
        images = len(self.tasks[task - 1].train)
        return num_batches(images, self.config.train.batch_size, self.epochs(task))

    def objective(self, task: int) -> Objective:
        """The task's training objective, on the devices."""
        steps = self.steps(task)
        on_devices = self.layout.replicate(
            {
                "head": self.head,
                "classes": self.scenario.class_mask(self.tasks[task - 1]),
                "heads": self.scenario.head_of,
                "warmup": np.int32(warmup_steps(self.config.train, steps)),
                "steps": np.int32(steps),
                "key": self._key(task),
            }
        )
        return Objective(**on_devices)

    def train_batches(self, task: int, epochs: int) -> grain.IterDataset[Batch[np.ndarray]]:
        """`epochs` passes over the task's training images, on the host."""
        return self._train_batches(task, self.tasks[task - 1].train, epochs)

    def train_images(self, task: int) -> tuple[Iterable[Batch[np.ndarray]], int]:
        """One pass over the task's training images, as evaluation shows them; and its batch count.

        If `config.merging.refit_images` is set, over that many of them, drawn with the run's seed.
        """
        images, most = self.tasks[task - 1].train, self.config.merging.refit_images
        if most is not None and most < len(images):
            images = np.random.default_rng(self._seed(task)).choice(images, most, replace=False)
        rows, kind, source = self.eval_batch_size, self.preprocessing, self.scenario.train
        batches = batches_of(self.config, source, np.sort(images), rows, kind, self.layout)
        return batches, num_batches(len(images), rows)

    def images_once(self, task: int) -> int:
        """Number of training images that the regularizer reads after the task is learned."""
        method = self.config.method
        return REGULARIZERS[method.regularizer].images_once(method, len(self.tasks[task - 1].train))

    def batches_once(self, task: int) -> grain.IterDataset[Batch[np.ndarray]]:
        """One pass over these images: all of the task's, or a sample drawn with the run's seed."""
        images, count = self.tasks[task - 1].train, self.images_once(task)
        if count < len(images):
            images = np.random.default_rng(self._seed(task)).choice(images, count, replace=False)
        return self._train_batches(task, images, epochs=1)

    def _train_batches(
        self, task: int, images: np.ndarray, epochs: int
    ) -> grain.IterDataset[Batch[np.ndarray]]:
        recipe, geometry = self.config.train, self.preprocessing.geometry
        return train_batches(
            self.scenario.train,
            images,
            recipe.batch_size,
            epochs,
            seed=self._seed(task),
            size=self.preprocessing.size,
            workers=recipe.workers,
            rows=self.layout.rows(recipe.batch_size),
            geometry=geometry,
            # The canvas for crops always contains the square that CLIP's own geometry crops.
            crops=tuple(recipe.crop_scale) != (1, 1) or geometry == CLIPS,
        )

    def _seed(self, task: int) -> int:
        return int(jax.random.bits(self._key(task)))

    def _key(self, task: int) -> jax.Array:
        return jax.random.fold_in(jax.random.key(self.config.seed), task)


def build_run(
    config: ExperimentConfig,
    scenario: Scenario,
    layout: Layout,
    model: Model | None = None,
    run: Path | None = None,
) -> RunParts:
    """Loads theta_0 and builds everything else; compiles nothing yet.

    Args:
      model: theta_0, if it is not the one that the configuration names.
      run: a run's directory, whose head is reused if it still matches.

    Raises:
      UserError: the model cannot be read, or does not fit the configuration.
    """
    if model is None:
        model = from_pretrained(
            config.model.source, config.model.image_size, text_source=config.model.text_source
        )
    shape = model.config
    size = shape.image_size
    preprocessing = preprocessing_of(model)
    weights, head_from = head_of(model, scenario.heads, run)
    head = layout.replicate(weights)
    notes = (*default_preprocessing(model, config.model.source), *alike_prompts(model, scenario))
    scenario = replace(scenario, notes=(*scenario.notes, *notes))
    clip_entries = num_entries(model)
    merges = parse_merges(config, clip_entries, shape)
    tower, theta_0 = model.image_tower(config.model.dtype, config.train.remat, layout.whole)
    trained = trainable(shape, theta_0, config.train.freeze)
    del model  # the text tower is no longer needed
    rows = eval_batch_size(config, scenario, layout)

    regularizer = build_regularizer(
        config.method, tower, preprocessing, scenario.num_classes, layout
    )
    return RunParts(
        config=config,
        scenario=replace(scenario, train=cached(scenario.train, size, config.train.workers)),
        tasks=curriculum(scenario, config),
        merges=merges,
        refits=parse_refits(config, merges, shape),
        shape=shape,
        clip_entries=clip_entries,
        layout=layout,
        theta_0=layout.params(theta_0),
        head=head,
        head_from=head_from,
        tower=tower,
        preprocessing=preprocessing,
        trainer=make_trainer(
            tower, preprocessing, config.train, regularizer.penalty, trained, layout
        ),
        regularizer=regularizer,
        test=evaluation_set(config, scenario, rows, tower, preprocessing, head, layout),
        eval_batch_size=rows,
    )
