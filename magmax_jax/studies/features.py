"""How far the features of a model are from those of the pretrained one."""

from collections.abc import Iterator

import jax

from magmax_jax.analysis import alignment as cka
from magmax_jax.evaluation import encode
from magmax_jax.studies.subject import Record, Subject


def alignment(subject: Subject) -> Iterator[Record]:
    """Linear CKA between the image features of theta_0 and of every model, on test images.

    Of all of them, and of each task's; features are of length one, as the head sees them.
    """
    parts = subject.parts
    learned = [] if parts.config.method.joint else range(1, len(parts.tasks) + 1)
    trials = {"all": parts.test}
    trials |= {parts.tasks[i - 1].name: parts.test_of(i) for i in learned}
    width = parts.head.shape[0]

    @jax.jit
    def features(params, batch):
        return encode(parts.tower, parts.preprocessing, params, batch)

    for model, scale, params in subject.models():
        params = parts.layout.params(params)
        for group, trial in trials.items():
            state = cka.init(width, width)
            shown = subject.progress.evaluating(
                f"features of {model}, {group}", trial.batches, trial.num_batches
            )
            for batch in map(parts.layout.batch, shown):
                x, y = features(parts.theta_0, batch), features(params, batch)
                state = cka.update(state, x, y, batch.mask)
            yield {"model": model, "scale": scale, "group": group, "cka": cka.finalize(state)}
