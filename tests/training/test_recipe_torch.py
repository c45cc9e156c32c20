"""Whole trainings against torch's: transformers' CLIP, torch's AdamW, clipping and autograd.

Both see identical pixels. Every loss and every final parameter is compared, except keys' biases:
softmax sees only differences of keys, so their gradients are rounding error, which Adam amplifies.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from magmax_jax.config import MethodConfig, TrainConfig
from magmax_jax.data import Batch, Preprocessing
from magmax_jax.models import CLIP, conversion
from magmax_jax.training import (
    Objective,
    build_regularizer,
    fine_tune,
    make_trainer,
    second_moments,
)
from tests.models.weights import CONFIGS, weights, write_checkpoint

torch = pytest.importorskip("torch")

from torch.nn.functional import cross_entropy, normalize, softmax  # noqa: E402
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection  # noqa: E402

CONFIG = CONFIGS["legacy"]
SIZE, WIDTH = CONFIG["vision_config"]["image_size"], CONFIG["projection_dim"]
RATE, DECAY, WARMUP = 1e-4, 0.1, 4
TASKS = [[0, 3], [2, 1, 4]]
"""Classes of two tasks out of five."""
TOLERANCE = 1e-5


@pytest.fixture(scope="module", autouse=True)
def highest_precision():
    with jax.default_matmul_precision("highest"):
        yield


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    directory = tmp_path_factory.mktemp("legacy")
    return CLIP.from_pretrained(write_checkpoint(directory, CONFIG, weights(CONFIG)))


def new_twin():
    """transformers' image tower with the same weights."""
    config = CLIPVisionConfig(**CONFIG["vision_config"], projection_dim=WIDTH)
    tower = CLIPVisionModelWithProjection(config)
    tensors = {k: torch.from_numpy(v.copy()) for k, v in weights(CONFIG).items() if k[:3] == "vis"}
    tower.load_state_dict(tensors, strict=True)
    return tower


@pytest.fixture
def twin():
    return new_twin()


def head() -> np.ndarray:
    columns = np.random.RandomState(1).normal(size=(WIDTH, 5)).astype(np.float32)
    return 5 * columns / np.linalg.norm(columns, axis=0)


def batches(task: int, count: int) -> list[Batch]:
    """Batches of six, the last one with two rows of padding."""
    random, made = np.random.RandomState(task), []
    for number in range(count):
        image = random.randint(0, 256, (6, SIZE, SIZE, 3)).astype(np.uint8)
        label = random.choice(TASKS[task], 6).astype(np.int32)
        box = np.tile(np.array([0, 0, SIZE, SIZE], np.int32), (6, 1))
        mask = np.arange(6) < (4 if number == count - 1 else 6)
        made.append(Batch(image, box, label, np.arange(6, dtype=np.int32), mask))
    return made


def torch_samples(batch: Batch, task: int):
    """The samples' pixels, channels first, and their labels' positions among the task's classes."""
    pixels = np.asarray(Preprocessing(SIZE).evaluate(batch.image, batch.box))[batch.mask]
    places = [TASKS[task].index(label) for label in batch.label[batch.mask]]
    return torch.from_numpy(pixels.transpose(0, 3, 1, 2).copy()), torch.tensor(places)


def logits_of(twin, pixels, classes: list[int]):
    """Logits over these classes only, in their order: one column per class."""
    features = normalize(twin(pixel_values=pixels).image_embeds, dim=-1)
    return features @ torch.from_numpy(head()[:, classes])


def learn(
    twin,
    task: int,
    count: int,
    penalty=lambda pixels: 0.0,
    autocast: bool = False,
    on_end=lambda optimizer: None,
) -> list[float]:
    """Trains the twin in place; returns the losses including the penalty."""
    optimizer = torch.optim.AdamW(twin.parameters(), lr=RATE, weight_decay=DECAY)
    rate = torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        lambda step: (
            (step + 1) / WARMUP
            if step < WARMUP
            else 0.5 * (1 + math.cos(math.pi * (step - WARMUP) / (count - WARMUP)))
        ),
    )
    losses = []
    for batch in batches(task, count):
        pixels, labels = torch_samples(batch, task)
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            loss = cross_entropy(logits_of(twin, pixels, TASKS[task]), labels) + penalty(pixels)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(twin.parameters(), 1.0)
        optimizer.step()
        rate.step()
        losses.append(float(loss.detach()))
    on_end(optimizer)
    return losses


def ours(
    model,
    method: MethodConfig,
    tasks: int,
    count: int,
    dtype: str = "float32",
    on_end=lambda state: None,
):
    """Losses and final parameters of the same training in JAX."""
    tower, theta_0 = model.image_tower(dtype)
    preprocessing = Preprocessing(SIZE)
    recipe = TrainConfig(learning_rate=RATE, weight_decay=DECAY, crop_scale=(1.0, 1.0))
    regularizer = build_regularizer(method, tower, preprocessing, num_classes=5)
    trainer = make_trainer(tower, preprocessing, recipe, regularizer.penalty)
    theta, memory, losses = theta_0, regularizer.init(theta_0), []
    for task in range(tasks):
        goal = Objective(
            jnp.asarray(head()),
            jnp.asarray(np.isin(np.arange(5), TASKS[task])),
            jnp.zeros(5, jnp.int32),
            jnp.int32(WARMUP),
            jnp.int32(count),
            jax.random.key(0),
        )
        given = batches(task, count)
        theta = fine_tune(
            trainer,
            theta,
            goal,
            given,
            lambda _, metrics: losses.append(metrics.loss),
            memory,
            on_end=on_end,
        )
        memory = regularizer.consolidate(memory, theta, given, goal)
    return losses, theta


def by_name(model, theta) -> dict[str, np.ndarray]:
    """Our parameters by transformers' names, without the keys' biases."""
    flat, found = dict(conversion.flat(theta)), {}
    for entry in model.config.image_entries:
        leaf = np.asarray(flat[entry.path])
        for names, layer in zip(entry.names, leaf if entry.stacked else [leaf], strict=True):
            found |= dict(zip(names, entry.layout.split(layer), strict=True))
    return {name: tensor for name, tensor in found.items() if not name.endswith("k_proj.bias")}


def compare(model, losses, theta, twin, expected) -> None:
    np.testing.assert_allclose(losses, expected, rtol=TOLERANCE)
    start, ours, theirs = weights(CONFIG), by_name(model, theta), twin.state_dict()
    for name, tensor in ours.items():
        reference = theirs[name].numpy()
        bound = TOLERANCE * np.abs(reference).max()
        assert np.abs(tensor - reference).max() <= bound, name
        # Far above the tolerance, so the training agrees and not merely the start.
        assert np.abs(reference - start[name]).max() > 10 * bound, name
    assert len(ours) == len(theirs) - CONFIG["vision_config"]["num_hidden_layers"]


def test_plain_fine_tuning_matches_torch(model, twin):
    expected = learn(twin, 0, count=20)
    losses, theta = ours(model, MethodConfig(), tasks=1, count=20)
    compare(model, losses, theta, twin, expected)


def test_second_moments_match_torch(model, twin):
    theirs, found = {}, []

    def note(optimizer):
        for name, parameter in twin.named_parameters():
            state = optimizer.state[parameter]
            theirs[name] = state["exp_avg_sq"] / (1 - 0.999 ** int(state["step"]))

    learn(twin, 0, count=10, on_end=note)
    end = lambda state: found.append(second_moments(state.moments))  # noqa: E731
    ours(model, MethodConfig(), tasks=1, count=10, on_end=end)
    moments = by_name(model, found[0])
    for name, tensor in moments.items():
        reference = theirs[name].numpy()
        assert np.abs(tensor - reference).max() <= 1e-3 * reference.max() > 0, name
    assert len(moments) == len(theirs) - CONFIG["vision_config"]["num_hidden_layers"]


def apart(one: dict, other: dict) -> float:
    """Distance between the final parameters of two trainings, relative to how far `other` moved."""
    start = weights(CONFIG)
    between = sum(np.sum((one[name] - other[name]) ** 2) for name in other)
    way = sum(np.sum((other[name] - start[name]) ** 2) for name in other)
    return float(np.sqrt(between / way))


def test_bfloat16_stays_as_close_to_float32_as_autocast(model):
    losses, ends, found = {}, {}, {}
    for autocast in (False, True):
        twin = new_twin()
        losses["torch", autocast] = learn(twin, 0, count=20, autocast=autocast)
        state = {name: tensor.numpy() for name, tensor in twin.state_dict().items()}
        ends["torch", autocast] = {n: t for n, t in state.items() if "k_proj.bias" not in n}
    for dtype in ("float32", "bfloat16"):
        narrow = dtype == "bfloat16"
        losses["ours", narrow], theta = ours(model, MethodConfig(), 1, count=20, dtype=dtype)
        ends["ours", narrow] = by_name(model, theta)
    for library in ("ours", "torch"):
        off = np.abs(np.subtract(losses[library, True], losses[library, False])).max()
        found[library] = np.array([off, apart(ends[library, True], ends[library, False])])
    assert np.all(found["ours"] <= 1.25 * found["torch"]), found


def torch_fisher(twin, kind: str) -> dict:
    """Squared gradients of -log p(likeliest class), from the first task's batches."""
    named = dict(twin.named_parameters())
    squares = {name: torch.zeros_like(p) for name, p in named.items()}
    running = {name: torch.zeros_like(p) for name, p in named.items()}
    samples = 0
    for batch in batches(0, 10):
        pixels, _ = torch_samples(batch, 0)
        samples += len(pixels)
        for part in pixels.split(1) if kind == "empirical" else [pixels]:
            logits = logits_of(twin, part, TASKS[0])
            loss = cross_entropy(logits, logits.argmax(dim=1))
            gradients = torch.autograd.grad(loss, list(named.values()))
            for name, gradient in zip(named, gradients, strict=True):
                running[name] = gradient + (running[name] if kind == "accumulated" else 0)
                squares[name] += len(part) * running[name] ** 2
    return {name: square / samples for name, square in squares.items()}


@pytest.mark.parametrize("kind", ["empirical", "batch", "accumulated"])
def test_ewc_matches_torch(model, twin, kind):
    expected = learn(twin, 0, count=10)
    fisher = torch_fisher(twin, kind)
    anchor = {name: p.detach().clone() for name, p in twin.named_parameters()}

    def penalty(pixels):
        # Half of the first Fisher: it is blended with the initial zeros.
        return (
            1e6
            / 2
            * sum(
                (0.5 * fisher[name] * (p - anchor[name]) ** 2).sum()
                for name, p in twin.named_parameters()
            )
        )

    expected += learn(twin, 1, count=10, penalty=penalty)
    method = MethodConfig(regularizer="ewc", fisher=kind)
    losses, theta = ours(model, method, tasks=2, count=10)
    compare(model, losses, theta, twin, expected)


def test_lwf_matches_torch(model, twin):
    expected = learn(twin, 0, count=10)
    config = CLIPVisionConfig(**CONFIG["vision_config"], projection_dim=WIDTH)
    teacher = CLIPVisionModelWithProjection(config)
    teacher.load_state_dict(twin.state_dict())

    def penalty(pixels):
        with torch.no_grad():
            target = softmax(logits_of(teacher, pixels, TASKS[0]), dim=1) ** 0.5
            target = target / target.sum(dim=1, keepdim=True)
        found = softmax(logits_of(twin, pixels, TASKS[0]), dim=1) ** 0.5
        found = found / found.sum(dim=1, keepdim=True) + 1e-5 / len(TASKS[0])
        found = found / found.sum(dim=1, keepdim=True)
        return 0.3 * -(target * found.log()).sum(dim=1).mean()

    expected += learn(twin, 1, count=10, penalty=penalty)
    losses, theta = ours(model, MethodConfig(regularizer="lwf"), tasks=2, count=10)
    compare(model, losses, theta, twin, expected)
