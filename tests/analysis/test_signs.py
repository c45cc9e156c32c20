"""Sign conflicts from one pass over each task vector, against NumPy's counts over all at once."""

import jax
import numpy as np
import pytest

from magmax_jax.analysis import SignConflicts, sign_conflicts, signs
from magmax_jax.errors import UserError
from tests.analysis.cases import NAMES, flat, part, task_vector

KEPT = (0.1, 1.0, 0.5)


def expected(taus: list[dict], kept: float, where: np.ndarray) -> tuple[int, ...]:
    """Entries, changed, shared, conflicts among `where`, bool (n,)."""
    plus = np.zeros((len(taus), where.size), bool)
    minus = plus.copy()
    for i, tau in enumerate(map(flat, taus)):
        least = np.sort(np.abs(tau))[::-1][int(kept * tau.size) - 1]
        plus[i] = (tau >= least) & (tau > 0)
        minus[i] = (-tau >= least) & (tau < 0)
    times = (plus | minus)[:, where].sum(axis=0)
    both = (plus.any(axis=0) & minus.any(axis=0))[where]
    return int(where.sum()), int((times >= 1).sum()), int((times >= 2).sum()), int(both.sum())


def test_counts_match_numpy_for_every_number_of_tasks_share_and_part():
    taus = [task_vector(seed) for seed in range(4)]
    found = list(sign_conflicts(iter(taus), KEPT, part))
    sizes = [taus[0]["blocks"]["bias"].size, taus[0]["blocks"]["kernel"].size, 24 * 8]
    in_head = np.repeat([False, False, True], sizes)
    places = {"all": np.full(in_head.size, True), "blocks": ~in_head, "head": in_head}
    assert found == [
        SignConflicts(tasks, kept, name, *expected(taus[:tasks], kept, where))
        for tasks in (2, 3, 4)
        for kept in (1.0, 0.5, 0.1)
        for name, where in places.items()
    ]
    assert 0 < found[0].conflicts < found[0].shared < found[0].changed < found[0].entries


def test_agreeing_task_vectors_have_no_conflict_and_opposite_ones_only_conflicts():
    tau = task_vector(0)
    opposite = jax.tree.map(np.negative, tau)
    [agreeing] = sign_conflicts([tau, tau], [1.0])
    [opposed] = sign_conflicts([tau, opposite], [1.0])
    assert agreeing.conflicts == 0
    assert opposed.conflicts == opposed.shared == opposed.changed == np.count_nonzero(flat(tau))


def test_neither_zeros_nor_entries_below_the_threshold_count():
    taus = [np.float32([0, 5, 1, -4]), np.float32([0, -5, -1, -4])]
    everything, half = sign_conflicts(taus, [1.0, 0.5])
    assert everything[3:] == (4, 3, 3, 2)
    assert half[3:] == (4, 2, 2, 1)
    # A third task that only repeats a small entry keeps it, but shares it with no other task.
    *_, after_three = sign_conflicts([*taus, np.float32([0, 0, 3, 2])], [0.5])
    assert after_three[3:] == (4, 3, 2, 2)


def test_shares_are_of_all_entries_and_of_the_shared():
    counts = SignConflicts(3, 0.2, "all", entries=8, changed=4, shared=2, conflicts=1)
    assert counts.record() == {
        "tasks": 3, "kept": 0.2, "part": "all", "entries": 8,
        "changed": 0.5, "shared": 0.25, "conflicts": 0.125, "of_shared": 0.5,
    }  # fmt: skip
    assert counts._replace(shared=0, conflicts=0).record()["of_shared"] is None


def test_streams_with_a_state_of_three_bytes_per_entry():
    taus = [task_vector(seed) for seed in range(3)]
    state = signs.init(taus[0])
    size = sum(leaf.nbytes for leaf in jax.tree.leaves(state))
    for tau in taus:
        state = signs.update(state, tau, signs.thresholds(tau, KEPT))
        assert sum(leaf.nbytes for leaf in jax.tree.leaves(state)) == size
    assert size == 3 * flat(taus[0]).size + 4
    assert list(state.plus) == NAMES
    assert list(signs.finalize(state, KEPT, part)) == list(sign_conflicts(taus, KEPT, part))[-9:]


def test_half_precision_is_counted_without_conversion():
    taus = [task_vector(seed, np.float16) for seed in range(2)]
    [found] = sign_conflicts(taus, [0.1])
    assert found[3:] == expected(taus, 0.1, np.full(flat(taus[0]).size, True))


@pytest.mark.parametrize(
    ("taus", "kept", "message"),
    [
        ([np.ones(2, np.float32)], [1.5], "share of 1.5"),
        ([np.ones(2, np.float32)], [], "0 shares"),
        ([np.ones(2, np.float32), np.ones(3, np.float32)], [1.0], "shape"),
        ([np.ones(2, np.int32)], [1.0], "no floating-point leaves"),
    ],
    ids=["no share", "no shares", "another model", "integers"],
)
def test_invalid_input_is_rejected(taus, kept, message):
    with pytest.raises(UserError, match=message):
        list(sign_conflicts(taus, kept))
