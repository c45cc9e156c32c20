"""Similarity of a model's features to the pretrained model's."""

from collections.abc import Iterator

import jax

from magmax_jax.analysis import cka as cka
from magmax_jax.data import Batch
from magmax_jax.evaluation.evaluator import encode
from magmax_jax.runs.studies.subject import Record, Subject
from magmax_jax.training import Params


def alignment(subject: Subject) -> Iterator[Record]:
    """Linear CKA between the image features of theta_0 and of every model, on test images.

    Over all images and per task, in one pass; features are normalised to unit length, as the head
    sees them.
    """
    parts, images = subject.parts, subject.parts.test
    names = [] if parts.config.method.joint else [task.name for task in parts.tasks]
    task_of = parts.layout.replicate(parts.scenario.task_of)
    width = parts.head.shape[0]

    @jax.jit(donate_argnums=0)
    def step(
        states: dict[str, cka.Moments],
        models: tuple[Params, Params],
        batch: Batch[jax.Array],
        task_of: jax.Array,
    ) -> dict[str, cka.Moments]:
        x, y = (encode(parts.tower, parts.preprocessing, params, batch) for params in models)
        masks = {name: task_of[batch.index] == number for number, name in enumerate(names)}
        return {
            group: cka.update(state, x, y, batch.mask & masks.get(group, True))
            for group, state in states.items()
        }

    for model, scale, params in subject.models():
        models = parts.theta_0, parts.layout.params(params)
        states = {group: cka.init(width, width) for group in ("all", *names)}
        shown = subject.progress.evaluating(
            f"features of {model}", images.batches, images.num_batches
        )
        for batch in map(parts.layout.batch, shown):
            states = step(states, models, batch, task_of)
        for group in ("all", *names):  # a jitted function sorts dict keys
            value = cka.finalize(states[group])
            yield {"model": model, "scale": scale, "group": group, "cka": value}
