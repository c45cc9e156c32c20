"""Studies of the task vectors: signs, lengths, angles, and which task supplied what."""

from collections.abc import Iterator

from magmax_jax.analysis import cosines, inner_products, norm, sign_conflicts, supplied
from magmax_jax.merging import rules, task_vector
from magmax_jax.runs.studies.subject import Record, Subject
from magmax_jax.training import Params


def signs(subject: Subject) -> Iterator[Record]:
    """Sign conflicts among the first T task vectors, over all entries and by kind of weight."""
    subject.check_tasks()
    for found in sign_conflicts(subject.taus(), part_of=lambda leaf: subject.place_of(leaf).kind):
        yield found.record()


def norms(subject: Subject) -> Iterator[Record]:
    """Each task's distance from theta_0 and from the previous task; and the merge's norm so far."""
    subject.check_tasks()
    rule = rules.max_magnitude()
    state = rule.init(subject.parts.theta_0)
    before = None
    for name, tau in zip(subject.names, subject.taus(), strict=True):
        state = rule.update(state, tau)
        length = norm(tau)
        step = length if before is None else norm(task_vector(tau, before))
        yield {"task": name, "norm": length, "step": step, "merged": norm(rule.finalize(state))}
        before = tau


def similarity(subject: Subject) -> Iterator[Record]:
    """Cosines of the angles between task vectors, including those of the run's merges."""
    subject.check_tasks()
    names = [*subject.names, *subject.parts.merges]

    def load(number: int) -> Params:
        if number < subject.learned:
            return subject.leave_out(subject.tau(number + 1))
        return subject.merged_tau(names[number])

    found = cosines(inner_products(load, len(names)))
    for first, row in zip(names, found, strict=True):
        for second, cosine in zip(names, row, strict=True):
            yield {"first": first, "second": second, "cosine": float(cosine)}


def provenance(subject: Subject) -> Iterator[Record]:
    """Which task supplied how much of the maximum-magnitude merge, by layer and kind of weight."""
    subject.check_tasks()
    rule = rules.max_magnitude(provenance=True)
    state = rule.init(subject.parts.theta_0)
    for tau in subject.taus():
        state = rule.update(state, tau)
    for found in supplied(state, lambda leaf: subject.place_of(leaf).stacked):
        place = subject.place_of(found.leaf)
        number = "" if found.layer is None else f" {found.layer + 1}"
        yield {
            "rule": "max_magnitude",
            "task": subject.names[found.task - 1],
            "layer": f"{place.section}{number}",
            "kind": place.kind,
            "entries": found.entries,
            "supplied": found.supplied,
            "squared_norm": found.squared_norm,
        }
