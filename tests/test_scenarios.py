import numpy as np
import pytest

from magmax_jax import scenarios
from magmax_jax.config import ScenarioConfig
from magmax_jax.data import Source
from magmax_jax.errors import UserError
from magmax_jax.scenarios import build_scenario
from tests.data import SHARED, needs_shared


def build(seed=5, **fields):
    return build_scenario(ScenarioConfig(**fields), seed)


@pytest.fixture
def two_domains(monkeypatch):
    """Four images of each of 3 classes in 2 domains, for training and for testing."""
    labels, domains = (a.ravel().astype(np.int32) for a in np.indices((3, 2)).repeat(4, axis=2))
    source = Source(
        np.zeros((24, 2, 2, 3), np.uint8),
        labels,
        ("ant", "bee", "red_fox"),
        domains,
        ("art", "toy"),
    )
    monkeypatch.setattr(scenarios, "load_source", lambda *_: source)
    return source


def assert_partition(scenario):
    for split in ("train", "test"):
        indices = np.concatenate([getattr(task, split) for task in scenario.tasks])
        source = getattr(scenario, split)
        np.testing.assert_array_equal(np.sort(indices), np.arange(len(source)))
        for task in scenario.tasks:
            assert np.isin(source.labels[getattr(task, split)], task.classes).all()
            assert getattr(task, split).dtype == np.int64


def test_class_incremental_digits():
    scenario = build(dataset="digits", num_tasks=5)
    assert_partition(scenario)
    assert [task.name for task in scenario.tasks] == [f"task {i}" for i in range(1, 6)]
    assert [task.classes.tolist() for task in scenario.tasks] == [
        [0, 1],
        [2, 3],
        [4, 5],
        [6, 7],
        [8, 9],
    ]
    assert scenario.templates == ('a photo of the number: "{}".',)
    np.testing.assert_array_equal(scenario.task_of, scenario.test.labels // 2)
    assert scenario.task_of.dtype == np.int32
    np.testing.assert_array_equal(scenario.class_masks, np.eye(5, dtype=bool).repeat(2, axis=1))


@pytest.mark.parametrize("num_tasks", [1, 3, 7, 10])
def test_unequal_tasks_follow_the_floor_rule(num_tasks):
    scenario = build(dataset="digits", num_tasks=num_tasks, allow_unequal=True)
    assert_partition(scenario)
    bounds = [10 * i // num_tasks for i in range(num_tasks + 1)]
    assert [len(task.classes) for task in scenario.tasks] == np.diff(bounds).tolist()


def test_random_orders_come_from_the_seed():
    def order(seed):
        tasks = build(seed, dataset="digits", num_tasks=5, order="random").tasks
        return [c for task in tasks for c in task.classes.tolist()]

    assert order(5) == order(5) != order(6)
    assert sorted(order(5)) == list(range(10))
    assert_partition(build(dataset="digits", num_tasks=5, order="random"))


def test_limits_keep_the_first_of_each_class():
    scenario = build(dataset="digits", num_tasks=5, limit_per_class=4)
    full = build(dataset="digits", num_tasks=5)
    for task, whole in zip(scenario.tasks, full.tasks, strict=True):
        assert (len(task.train), len(task.test)) == (8, 8)
        for c in task.classes:
            of_class = whole.train[full.train.labels[whole.train] == c]
            kept = task.train[scenario.train.labels[task.train] == c]
            np.testing.assert_array_equal(kept, of_class[:4])
    assert (scenario.task_of >= 0).sum() == 40
    assert (scenario.task_of == -1).sum() == len(scenario.test) - 40


def test_domain_incremental(two_domains):
    scenario = build(kind="domain", dataset="folder")
    assert_partition(scenario)
    assert [task.name for task in scenario.tasks] == ["art", "toy"]
    assert scenario.class_names == ("ant", "bee", "red fox")
    assert scenario.class_masks.all()
    np.testing.assert_array_equal(scenario.task_of, two_domains.domains)
    limited = build(kind="domain", dataset="folder", limit_per_class=1)
    assert [len(task.train) for task in limited.tasks] == [3, 3]


def test_random_domain_orders(two_domains):
    orders = {
        tuple(task.name for task in build(seed, kind="domain", order="random").tasks)
        for seed in range(8)
    }
    assert orders == {("art", "toy"), ("toy", "art")}


def test_templates_may_be_given():
    scenario = build(dataset="digits", num_tasks=5, templates=("the digit {}",))
    assert scenario.templates == ("the digit {}",)


def test_mistakes_are_named(two_domains):
    with pytest.raises(UserError, match=r"has 3 classes; num_tasks=4 is more"):
        build(dataset="folder", num_tasks=4)
    with pytest.raises(
        UserError, match=r"num_tasks=2 leaves unequal tasks \(1, 2\): pass allow_un"
    ):
        build(dataset="folder", num_tasks=2)


def test_digits_have_no_domains():
    with pytest.raises(UserError, match="digits has no domains"):
        build(kind="domain", dataset="digits")


@pytest.mark.parametrize(
    ("test_names", "message"),
    [
        (("ant", "cow"), "class bee is in train but not in test"),
        (("ant", "bee", "cow"), "class cow is in test but not in train"),
        (("bee", "ant"), "different orders"),
    ],
)
def test_train_and_test_share_their_classes(monkeypatch, test_names, message):
    def load(_, split, __):
        names = ("ant", "bee") if split == "train" else test_names
        return Source(np.zeros((2, 1, 1, 3), np.uint8), np.arange(2, dtype=np.int32), names)

    monkeypatch.setattr(scenarios, "load_source", load)
    with pytest.raises(UserError, match=message):
        build(dataset="folder", num_tasks=1)


def test_tasks_need_images(monkeypatch):
    source = Source(np.zeros((2, 1, 1, 3), np.uint8), np.zeros(2, np.int32), ("ant", "bee"))
    monkeypatch.setattr(scenarios, "load_source", lambda *_: source)
    with pytest.raises(UserError, match="task 2 has no training images"):
        build(dataset="folder", num_tasks=2)


@needs_shared("tensorflow_datasets/cifar100")
def test_cifar100_in_the_published_order():
    data_dir = str(SHARED / "tensorflow_datasets")
    scenario = build(dataset="cifar100", data_dir=data_dir, num_tasks=10)
    assert_partition(scenario)
    assert scenario.tasks[0].classes.tolist()[:4] == [70, 89, 11, 13]
    assert [len(task.train) for task in scenario.tasks] == [2000] * 10
    assert "aquarium_fish" in scenario.class_names
    with pytest.raises(UserError, match=r"num_tasks=3 leaves unequal tasks \(33, 33, 34\)"):
        build(dataset="cifar100", data_dir=data_dir, num_tasks=3)


@needs_shared("data/pacs")
def test_pacs_domains():
    scenario = build(kind="domain", dataset="folder", data_dir=str(SHARED / "data/pacs"))
    assert_partition(scenario)
    assert [len(task.test) for task in scenario.tasks] == [168, 168, 168, 166]
