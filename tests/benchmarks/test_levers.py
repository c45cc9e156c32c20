"""The step built in other ways: another program, the same function; nothing is left changed."""

import contextlib
import json

import jax
import numpy as np
import pytest
from flax import nnx

from benchmarks import alternatives, levers
from benchmarks.feeding import main as feeding
from benchmarks.levers import LEVERS, Lever, Settings, main
from benchmarks.shapes import SIZES
from benchmarks.workloads import image_tower, images, training


def traced(lever: Lever | None, dtype: str) -> str:
    """The step's jaxpr."""
    with lever.context() if lever else contextlib.nullcontext():
        work = training(SIZES["tiny"].model, 2, dtype)
        state = jax.eval_shape(work.trainer.init, work.theta)
        return str(work.trainer.step.trace(state, work.batch, work.objective, ()).jaxpr)


@pytest.fixture(scope="module")
def product():
    return {dtype: traced(None, dtype) for dtype in ("float32", "bfloat16")}


@pytest.mark.parametrize("lever", LEVERS, ids=[lever.theirs.replace(" ", "-") for lever in LEVERS])
def test_each_way_is_another_program(lever, product):
    dtype = "bfloat16" if lever.only == "bfloat16" else "float32"
    other = traced(lever, dtype)
    # cuDNN is asked for nowhere else; donation has a test of its own.
    if lever.only != "gpu" and lever.context is not alternatives.state_not_donated:
        assert other != product[dtype]


def test_nothing_of_the_other_ways_is_left():
    before = traced(None, "float32")
    for lever in LEVERS:
        with lever.context():
            pass
    assert traced(None, "float32") == before


def test_a_kernel_that_is_stored_out_in_computes_the_same():
    options = {"dtype": np.float32, "rngs": nnx.Rngs(0)}
    ours = nnx.Linear(3, 5, **options)
    theirs = alternatives.OutInLinear(3, 5, **options | {"rngs": nnx.Rngs(0)})
    x = jax.random.normal(jax.random.key(0), (2, 3))
    assert theirs.kernel[...].shape == (5, 3)
    np.testing.assert_allclose(theirs(x), ours(x), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "lever",
    [lever for lever in LEVERS if lever.theirs in (
        "jax.nn, tokens first, XLA", "softmax first", "a convolution", "unrolled",
    )],
    ids=lambda lever: lever.theirs.replace(" ", "-"),
)  # fmt: skip
def test_each_way_computes_the_same(lever):
    pixels = images(2, 32).image / np.float32(255)

    def features() -> jax.Array:
        graphdef, theta = image_tower(SIZES["tiny"].model, "float32")
        return jax.jit(lambda theta: nnx.merge(graphdef, theta)(pixels))(theta)

    expected = features()
    with lever.context():
        np.testing.assert_allclose(features(), expected, rtol=1e-4, atol=1e-5)


def test_donation_is_taken_away():
    program = {}
    for name, context in (("ours", contextlib.nullcontext), ("other", LEVERS[-1].context)):
        with context():
            work = training(SIZES["tiny"].model, 2, "float32")
            state = work.trainer.init(work.theta)
            lowered = work.trainer.step.lower(state, work.batch, work.objective, ())
        program[name] = "tf.aliasing_output" in lowered.as_text()
    assert program == {"ours": True, "other": False}


def test_both_sides_of_a_pair_are_built_within_its_base(monkeypatch):
    """What cuDNN would replace is held against what it would replace too."""
    entered, seen = [], []

    @contextlib.contextmanager
    def entering(name: str):
        entered.append(name)
        yield
        entered.remove(name)

    class Step:
        compilation, temporary = 0.0, 0

        def __init__(self, settings: Settings, context: contextlib.AbstractContextManager):
            with context:
                seen.append(list(entered))

        def call(self) -> None:
            assert not entered

    monkeypatch.setattr(levers, "Step", Step)
    monkeypatch.setattr(levers, "SAMPLE", 0)
    lever = Lever("a", "b", lambda: entering("other"), base=lambda: entering("base"))
    _, measured = levers.compare(Settings(repeats=2), lever)
    assert seen == [["base"], ["base", "other"]] and len(measured["ours"]) == 2
    within = {
        lever.theirs for lever in LEVERS if lever.base is alternatives.attention_without_cudnn
    }
    assert within == {"jax.nn, tokens first, XLA", "softmax first"}


@pytest.mark.parametrize(
    ("command", "flags", "said"),
    [
        (main, ["--batch-size", "0"], "--batch-size: 0 is not positive"),
        (main, ["--only", "nobody"], "--only: nothing is called nobody"),
        (feeding, ["--sides", "16", "-1"], "--sides: -1 is not positive"),
    ],
)
def test_mistakes_are_told_in_a_sentence(command, flags, said, capsys):
    assert command(flags) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {said}") and error.count("\n") == 1


def test_the_table_tells_pairs(tmp_path):
    output = tmp_path / "levers.md"
    flags = ["--size", "tiny", "--batch-size", "2", "--repeats", "1", "--only", "softmax first"]
    assert main([*flags, "--output", str(output)]) == 0
    assert "| divided after the second product | " in output.read_text()
    _, row = map(json.loads, output.with_suffix(".jsonl").read_text().splitlines())
    assert len(row["ours"]) == len(row["theirs"]) == 1 and row["other"] == "softmax first"


def test_feeding_tells_loops_and_resizes(tmp_path):
    output = tmp_path / "feeding.md"
    flags = "--size tiny --batch-size 2 --steps 2 --sides 16 --repeats 1 --output".split()
    assert feeding([*flags, str(output)]) == 0
    text = output.read_text()
    for name in ("ahead: the product's loop", "when asked", "two products on the device"):
        assert f"| {name} " in text
    _, *rows = map(json.loads, output.with_suffix(".jsonl").read_text().splitlines())
    assert [row["part"] for row in rows] == ["A loop of 2 steps", "From 16 to 32 px"]
