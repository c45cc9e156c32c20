"""User-defined rules, through public names only: `magmax merge` gives the bits of `mm.merge`."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file

import magmax_jax as mm
from magmax_jax.cli.main import main
from magmax_jax.merging import TaskVectors, is_merged, kth_magnitude
from magmax_jax.registry import RULES
from tests.merge_files.conftest import COUNTER, expected, merge, sources, write


def largest(share: float = 0.1, thresholds: Sequence[float] | None = None) -> mm.MergeRule:
    """Sums the largest entries of every task vector, a share of the whole vector."""

    def rank(size: int) -> int:
        return size - int(share * size)

    def threshold(tau) -> jax.Array:
        size = sum(leaf.size for leaf in jax.tree.leaves(tau) if is_merged(leaf))
        return kth_magnitude(tau, rank(size))

    def finalize(taus):
        least = [threshold(tau) for tau in taus] if thresholds is None else thresholds

        def merge(*leaves):
            return sum(jnp.where(abs(x) >= t, x, 0.0) for x, t in zip(leaves, least, strict=True))

        return mm.rules.leafwise(merge, *taus)

    def survey(vectors: TaskVectors) -> mm.MergeRule:
        return largest(share, vectors.kth_magnitudes(rank(vectors.size)))

    return mm.rules.collecting(
        finalize,
        default_scale=0.5,
        scope="entry",
        reads_names=False,
        survey=survey if thresholds is None else None,
    )


def undeclared(share: float = 0.1) -> mm.MergeRule:
    """The same rule without any declarations."""
    return mm.rules.collecting(largest(share).finalize, default_scale=0.5)


def undeclared_streaming() -> mm.MergeRule:
    """A rule with its own state; every task vector is weighted by its largest entry."""

    def update(total, tau):
        most = jnp.max(jnp.stack([jnp.max(jnp.abs(x)) for x in jax.tree.leaves(tau)]))
        return mm.rules.leafwise(lambda a, b: a + b / most, total, tau)

    def init(theta_0):
        return jax.tree.map(lambda x: jnp.zeros(x.shape, jnp.float32), theta_0)

    return mm.MergeRule(init, update, lambda total: total, True, 0.5)


def balanced(norms: Sequence[float] | None = None) -> mm.MergeRule:
    """Sums task vectors normalised to length 1. Norms range over all tensors and are not counts."""

    def norm(squares) -> jax.Array:
        return jnp.sqrt(sum(squares))

    def finalize(taus):
        lengths = norms or [
            norm([mm.rules.squared_norm(x) for x in jax.tree.leaves(tau) if is_merged(x)])
            for tau in taus
        ]

        def merge(*leaves):
            return sum(x / length for x, length in zip(leaves, lengths, strict=True))

        return mm.rules.leafwise(merge, *taus)

    def survey(vectors: TaskVectors) -> mm.MergeRule:
        squares: list[list] = [[] for _ in range(vectors.count)]
        for _, taus in vectors.tensors():
            for own, tau in zip(squares, taus, strict=True):
                own += map(mm.rules.squared_norm, jax.tree.leaves(tau))
        return balanced([float(norm(own)) for own in squares])

    return mm.rules.collecting(
        finalize, default_scale=0.5, scope="tensor", survey=None if norms else survey
    )


def touched(share: float | None = None) -> mm.MergeRule:
    """Sums task vectors, times the share of entries that every task changes."""

    def count(leaves) -> jax.Array:
        return sum((leaf != 0).astype(jnp.int32).sum() for leaf in leaves)

    def finalize(taus):
        leaves = [x for tau in taus for x in jax.tree.leaves(tau) if is_merged(x)]
        factor = count(leaves) / sum(x.size for x in leaves) if share is None else share
        return mm.rules.leafwise(lambda *x: sum(x) * jnp.float32(factor), *taus)

    def survey(vectors: TaskVectors) -> mm.MergeRule:
        return touched(float(np.float32(vectors.total(count) / vectors.size / vectors.count)))

    return mm.rules.collecting(
        finalize,
        default_scale=0.5,
        scope="tensor",
        reads_names=False,
        survey=survey if share is None else None,
    )


OWN = {
    "largest": largest,
    "undeclared": undeclared,
    "undeclared-streaming": undeclared_streaming,
    "balanced": balanced,
    "touched": touched,
}


@pytest.fixture(autouse=True)
def registered():
    for name, rule in OWN.items():
        RULES.register(name, rule)
    yield
    for name in OWN:
        RULES.unregister(name)


def assert_same_bits(directory, content) -> None:
    found = load_file(directory / "model.safetensors")
    for name in content.keys() - {COUNTER}:
        assert found[name].tobytes() == np.asarray(content[name]).tobytes(), name


@pytest.mark.parametrize("name", OWN)
def test_files_are_merged_with_the_bits_of_memory(models, tmp_path, name):
    assert merge(*sources(models), "--rule", name, "--output", tmp_path / "out") == 0
    assert_same_bits(tmp_path / "out", expected([1, 2, 3], OWN[name]()))


@pytest.mark.parametrize(
    ("name", "options", "rule"),
    [
        ("ties", [], mm.rules.ties()),
        ("ties", ["threshold=per_tensor"], mm.rules.ties(threshold="per_tensor")),
        ("ties", ["elect=count", "aggregate=sum"], mm.rules.ties(elect="count", aggregate="sum")),
        ("magnitude_prune", ["threshold=global"], mm.rules.magnitude_prune(threshold="global")),
        ("opcm", [], mm.rules.opcm()),
    ],
)
def test_bundled_rules_of_whole_task_vectors_are_too(models, tmp_path, name, options, rule):
    assert rule.survey or rule.settle
    flags = ["--rule", name, "--scale", 0.5, "--options", *options]
    assert merge(*sources(models), *flags, "--output", tmp_path / "out") == 0
    assert_same_bits(tmp_path / "out", expected([1, 2, 3], rule, 0.5))


def test_the_majority_over_all_tensors_also_decides_per_tensor(tmp_path):
    """Most entries of "a" elect plus, but the whole vector elects minus; a[0] cancels."""
    thetas = [
        {"a": np.zeros(4, np.float32), "b": np.zeros(9, np.float32)},
        {"a": np.float32([5, 1, 1, 1]), "b": np.full(9, -1, np.float32)},
        {"a": np.float32([-5, 0, 0, 0]), "b": np.zeros(9, np.float32)},
    ]
    places = [write(tmp_path / str(i), theta) for i, theta in enumerate(thetas)]
    options = ["threshold=per_tensor", "density=1"]
    flags = ["--rule", "ties", "--scale", 1, "--options", *options, "--output", tmp_path / "out"]
    assert merge(*sources(places), *flags) == 0
    found = load_file(tmp_path / "out" / "model.safetensors")["a"]
    rule = mm.rules.ties(1.0, threshold="per_tensor")
    np.testing.assert_array_equal(found, mm.merge(thetas[0], thetas[1:], rule, 1.0)["a"])
    assert found[0] == -5


def test_the_plan_says_that_a_rule_declares_nothing(models, capsys):
    assert merge(*sources(models), "--rule", "undeclared", "--dry-run") == 0
    shown = capsys.readouterr().out
    assert "all tensors at once" in shown
    assert "note: undeclared does not declare that it works tensor by tensor" in shown
    assert merge(*sources(models), "--rule", "largest", "--dry-run") == 0
    shown = capsys.readouterr().out
    assert "in chunks" in shown and "does not declare" not in shown


def test_a_state_file_is_for_rules_that_declare_their_scope(models, tmp_path, capsys):
    flags = ["--state", tmp_path / "state", "--output", tmp_path / "out"]
    assert merge(*sources(models), "--rule", "undeclared-streaming", *flags) == 2
    error = capsys.readouterr().err
    assert "does not declare that it works tensor by tensor" in error and error.count("\n") == 1
    assert not (tmp_path / "state").exists()


def test_a_survey_completes_the_rule_and_adds_no_floats(models, tmp_path, capsys):
    def endless() -> mm.MergeRule:
        return largest()._replace(survey=lambda vectors: largest())

    def floats() -> mm.MergeRule:
        return largest()._replace(survey=lambda vectors: vectors.total(lambda taus: taus[0].sum()))

    try:
        RULES.register("endless", endless)
        RULES.register("floats", floats)
        assert merge(*sources(models), "--rule", "endless", "--output", tmp_path / "out") == 2
        assert "returns a rule that needs a survey again" in capsys.readouterr().err
        with pytest.raises(TypeError, match="gives float32, not integers"):
            merge(*sources(models), "--rule", "floats", "--output", tmp_path / "out")
        assert not (tmp_path / "out").exists()
    finally:
        RULES.unregister("endless")
        RULES.unregister("floats")


def test_a_state_that_another_program_registered_is_still_inspected(models, tmp_path, capsys):
    RULES.register("theirs", mm.rules.task_arithmetic)
    state = tmp_path / "state"
    flags = ["--rule", "theirs", "--state", state, "--output", tmp_path / "out"]
    assert merge(*sources(models), *flags) == 0
    RULES.unregister("theirs")
    assert main(["inspect", str(state)]) == 0
    assert "theirs, state of 3 tasks" in capsys.readouterr().out
    assert merge("--finetuned", models[1], "--state", state, "--output", tmp_path / "more") == 2
    assert "'theirs' is not a merge rule" in capsys.readouterr().err
