"""One task of a run: fine-tuning, and what regularizers remember of it."""

from magmax_jax.data import num_batches
from magmax_jax.errors import DivergedError
from magmax_jax.registry import REGULARIZERS
from magmax_jax.runs import state
from magmax_jax.runs.build import RunParts
from magmax_jax.runs.checkpoints import Checkpoints
from magmax_jax.runs.merge_specs import needs_moments
from magmax_jax.runs.preemption import Stop
from magmax_jax.runs.progress import Progress
from magmax_jax.runs.recorder import until
from magmax_jax.runs.starts import next_start
from magmax_jax.runs.state import RunState
from magmax_jax.runs.step_log import StepLog
from magmax_jax.training import Memory, Metrics, Params, TrainState, fine_tune, second_moments


def learn(
    parts: RunParts,
    at: RunState,
    checkpoints: Checkpoints,
    stop: Stop,
    progress: Progress,
    log: StepLog,
) -> tuple[Params, Params | None]:
    """Fine-tunes on the next task; returns theta_t, and v_t of Adam if a merge needs it."""
    config, number = parts.config, at.learned + 1
    task, steps, epochs = parts.tasks[number - 1], parts.steps(number), parts.epochs(number)
    before = state.steps_done(parts, at) - at.step
    objective = parts.objective(number)
    batches = iter(parts.train_batches(number, epochs))
    if at.training:
        batches.set_state(at.data)

    def due(done: int) -> bool:
        # After the last step, a regularizer or a refit may take as long as an epoch.
        long = parts.regularizer.penalty is not None or bool(parts.refits)
        last = done == steps and long
        every = config.checkpoint.every
        return stop.at(before + done) or last or (every is not None and done % every == 0)

    def save(done: int, training: TrainState) -> None:
        now = at._replace(training=training, data=batches.get_state(), step=done)
        state.save(checkpoints, parts, now)
        stop.check()

    moments = None

    def on_end(last: TrainState) -> None:
        nonlocal moments
        if needs_moments(parts.merges):
            moments = parts.layout.params(second_moments(last.moments))

    name = f"{task.name} ({number}/{len(parts.tasks)})"
    # `init` copies, so a merge that the task starts from is freed before its first step.
    begun = at.training or parts.trainer.init(next_start(parts, at))
    start, resumed = begun.params, (at.step, begun)
    images = len(task.train) * epochs
    with progress.training(name, steps, images, at.step) as show:

        def on_step(step: int, metrics: Metrics[float]) -> None:
            show(step, metrics)
            log(number, step, metrics, images / steps)

        try:
            theta = fine_tune(
                parts.trainer,
                start,
                objective,
                batches,
                on_step,
                at.memory,
                resumed,
                due,
                save,
                on_end,
            )
        except DivergedError as error:
            raise DivergedError(f"{name}: {error}") from None
    return theta, moments


def remember(parts: RunParts, at: RunState, stop: Stop, progress: Progress) -> Memory:
    """The regularizer's memory of all tasks so far, including the one just learned.

    Penalties pull a task towards where it starts, so they consolidate at the parameters that the
    next task starts from: theta_t, unless tasks start from a merge.
    """
    number, config = at.learned, parts.config
    count = num_batches(parts.images_once(number), config.train.batch_size)
    once = progress.evaluating("importances", parts.batches_once(number), count)
    placed = map(parts.trainer.place, until(stop, once))
    holds = REGULARIZERS[config.method.regularizer].needs_previous_task
    params = next_start(parts, at) if holds else at.theta
    memory = parts.regularizer.consolidate(at.memory, params, placed, parts.objective(number))
    return parts.layout.params(memory)
