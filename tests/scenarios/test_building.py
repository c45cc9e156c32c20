import dataclasses

import numpy as np
import pytest
from PIL import Image

from magmax_jax.config import ExperimentConfig, MethodConfig, ScenarioConfig, TrainConfig
from magmax_jax.data import Source
from magmax_jax.errors import UserError
from magmax_jax.scenarios import (
    Head,
    Member,
    build_scenario,
    build_test_scenario,
    curriculum,
    parse_datasets,
    validating,
)
from magmax_jax.scenarios import (
    build as building,
)
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
    monkeypatch.setattr(building, "load_source", lambda *_: source)
    return source


def assert_partition(scenario):
    for split in ("train", "test"):
        indices = np.concatenate([getattr(task, split) for task in scenario.tasks])
        source = getattr(scenario, split)
        np.testing.assert_array_equal(np.sort(indices), np.arange(len(source)))
        for task in scenario.tasks:
            assert np.isin(source.labels[getattr(task, split)], task.classes).all()
            assert getattr(task, split).dtype == np.int64


@pytest.mark.parametrize("kind", ["class", "domain", "data"])
def test_a_share_of_every_class_and_domain_of_a_task_is_held_out(two_domains, kind):
    fields = {"kind": kind, "num_tasks": 3 if kind == "class" else 2, "dataset": "made up"}
    whole, held = build(**fields), build(**fields, validation=0.3)
    again = build(**fields, validation=0.3)
    for before, task, same in zip(whole.tasks, held.tasks, again.tasks, strict=True):
        assert len(before.validation) == 0
        together = np.sort(np.concatenate([task.train, task.validation]))
        np.testing.assert_array_equal(together, before.train)
        np.testing.assert_array_equal(task.validation, same.validation)
        np.testing.assert_array_equal(task.test, before.test)
        groups = list(zip(two_domains.labels, two_domains.domains, strict=True))
        for group in set(groups):
            of_group = [i for i in before.train if groups[i] == group]
            wanted = min(-(-3 * len(of_group) // 10), max(len(of_group) - 1, 0))
            assert len(set(of_group) & set(task.validation)) == wanted
    other = build(7, **fields, validation=0.3)
    assert any(
        a.validation.tolist() != b.validation.tolist()
        for a, b in zip(held.tasks, other.tasks, strict=True)
    )


def test_held_out_images_can_replace_the_test_images(two_domains):
    held = build(dataset="made up", kind="domain", validation=0.25)
    seen = validating(held)
    assert seen.test is held.train and seen.num_test == sum(len(t.validation) for t in held.tasks)
    for task, shown in zip(held.tasks, seen.tasks, strict=True):
        np.testing.assert_array_equal(shown.test, task.validation)


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
    assert scenario.heads == (Head(tuple("0123456789"), ('a photo of the number: "{}".',)),)
    np.testing.assert_array_equal(scenario.task_of, scenario.test.labels // 2)
    assert (scenario.domain_of == -1).all() and len(scenario.domain_of) == 355
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


def test_limits_keep_the_first_images_of_each_class():
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
    assert scenario.heads[0].class_names == ("ant", "bee", "red fox")
    assert scenario.domain_names == ()  # the domains are the tasks
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


def test_domains_are_counted_if_they_are_not_the_tasks(two_domains):
    scenario = build(dataset="folder", num_tasks=3)
    assert scenario.domain_names == ("art", "toy")
    np.testing.assert_array_equal(scenario.domain_of, two_domains.domains)


@pytest.mark.parametrize("kind", ["class", "domain", "data"])
def test_tasks_arrive_in_an_order_drawn_from_the_seed(two_domains, kind):
    def tasks(seed, **fields):
        return build(seed, kind=kind, dataset="folder", num_tasks=3, **fields).tasks

    def contents(tasks):
        return [tuple(task.train.tolist()) for task in tasks]

    plain = tasks(5)
    orders = set()
    for seed in range(8):
        shuffled = tasks(seed, shuffle_tasks=True)
        orders.add(tuple(contents(shuffled)))
        assert sorted(contents(shuffled)) == sorted(contents(tasks(seed)))
        if kind == "domain":  # a domain keeps its name; a number shows the position of a task
            assert {t.name: t.train.tolist() for t in shuffled} == {
                t.name: t.train.tolist() for t in plain
            }
        else:
            assert [t.name for t in shuffled] == ["task 1", "task 2", "task 3"]
    assert len(orders) > 1


@pytest.mark.parametrize("num_tasks", [1, 4, 7])
def test_shares_of_the_same_classes(num_tasks):
    scenario = build(kind="data", dataset="digits", num_tasks=num_tasks)
    assert_partition(scenario)
    assert scenario.name == "digits, data-incremental"
    for split in ("train", "test"):
        labels = getattr(scenario, split).labels
        of_all = np.bincount(labels)
        for task in scenario.tasks:
            own = np.bincount(labels[getattr(task, split)], minlength=10)
            assert (np.abs(own - of_all / num_tasks) < 1).all()
    sizes = [len(task.train) for task in scenario.tasks]
    assert max(sizes) - min(sizes) <= 1
    if num_tasks > 1:
        other = build(6, kind="data", dataset="digits", num_tasks=num_tasks)
        assert scenario.tasks[0].train.tolist() != other.tasks[0].train.tolist()


def test_shares_after_a_limit():
    scenario = build(kind="data", dataset="digits", num_tasks=2, limit_per_class=4)
    labels = scenario.train.labels
    for task in scenario.tasks:
        np.testing.assert_array_equal(np.bincount(labels[task.train]), [2] * 10)


def test_templates_may_be_given():
    scenario = build(dataset="digits", num_tasks=5, templates=("the digit {}",))
    assert scenario.heads[0].templates == ("the digit {}",)


class TestDatasets:
    @pytest.fixture(autouse=True)
    def known(self, monkeypatch):
        """Data sets with 2, 3 and 4 classes, named after these numbers; the last has domains."""

        def load(dataset, split, data_dir):
            assert data_dir == "there"
            k = {"mnist": 2, "dtd": 3, "folder:/my/pets": 4}[dataset]
            n = 6 * k if split == "train" else 2 * k
            images = np.full((n, 2, 2, 3), k, np.uint8)
            names = tuple(f"{'abcd'[i]}_{k}" for i in range(k))
            labels = (np.arange(n) % k).astype(np.int32)
            if k < 4:
                return Source(images, labels, names, image_shape=(2, 2))
            return Source(images, labels, names, labels // 2, ("art", "toy"), (2, 2))

        monkeypatch.setattr(building, "load_source", load)

    def build(self, *datasets, seed=5, **fields):
        fields = {"kind": "datasets", "data_dir": "there", **fields}
        return build_scenario(ScenarioConfig(datasets=datasets, **fields), seed)

    def test_each_has_its_own_head_and_epochs(self):
        scenario = self.build("mnist", "dtd@3", "folder:/my/pets")
        assert_partition(scenario)
        assert [task.name for task in scenario.tasks] == ["mnist", "dtd", "pets"]
        assert [task.epochs for task in scenario.tasks] == [5, 3, 10]
        assert [task.classes.tolist() for task in scenario.tasks] == [
            [0, 1],
            [2, 3, 4],
            [5, 6, 7, 8],
        ]
        assert scenario.num_classes == 9
        np.testing.assert_array_equal(scenario.head_of, [0, 0, 1, 1, 1, 2, 2, 2, 2])
        assert [head.class_names[0] for head in scenario.heads] == ["a 2", "a 3", "a 4"]
        assert len({head.templates for head in scenario.heads}) == 3
        assert scenario.domain_names == ("pets/art", "pets/toy")
        expected = np.r_[np.full(10, -1), np.tile([0, 0, 1, 1], 2)]
        np.testing.assert_array_equal(scenario.domain_of, expected)

    def test_images_follow_their_labels(self):
        scenario = self.build("dtd", "mnist")
        for task, k in zip(scenario.tasks, (3, 2), strict=True):
            assert {int(scenario.train.images[i].max()) for i in task.train} == {k}

    def test_their_order_may_be_random(self):
        orders = {
            tuple(t.name for t in self.build("mnist", "dtd", seed=seed, order="random").tasks)
            for seed in range(8)
        }
        assert orders == {("mnist", "dtd"), ("dtd", "mnist")}

    def test_joint_training_sees_every_image_as_often_as_separate_training(self):
        scenario = self.build("mnist@4", "dtd@6")
        joint = ExperimentConfig(method=MethodConfig(joint=True))
        (task,) = curriculum(scenario, joint)
        assert (task.name, task.epochs) == ("all tasks", 2)
        seen = np.bincount(task.train) * task.epochs
        np.testing.assert_array_equal(seen, [4] * 12 + [6] * 18)
        np.testing.assert_array_equal(task.test, np.arange(10))
        assert scenario.class_mask(task).all()
        same = dataclasses.replace(joint, train=TrainConfig(epochs=3))
        (task,) = curriculum(scenario, same)
        assert task.epochs == 3 and (np.bincount(task.train) == 1).all()
        assert curriculum(scenario, ExperimentConfig()) is scenario.tasks

    def test_mistakes_are_named(self):
        with pytest.raises(UserError, match="names mnist twice"):
            self.build("mnist", "mnist@3")
        for wrong in ("mnist@", "mnist@many", "mnist@0", "folder:/my/pets@x"):
            with pytest.raises(UserError, match="needs a number of epochs after the @"):
                self.build(wrong)
        with pytest.raises(UserError, match="names no data set"):
            self.build("@3")


def test_lists_of_data_sets_match_the_literature():
    eight = parse_datasets(["eight"])
    assert [(m.name, m.epochs) for m in eight[:3]] == [("cars", 35), ("mnist", 5), ("eurosat", 12)]
    assert [len(parse_datasets([name])) for name in ("fourteen", "twenty")] == [13, 18]
    assert parse_datasets(["folder:/some@where/pets"])[0].name == "pets"
    assert parse_datasets(["eight", "stl10@2"])[-1] == Member("stl10", "stl10", 2)


def test_an_existing_folder_with_an_at_sign_is_taken_as_a_path(tmp_path, monkeypatch):
    for name in ("me@uni", "pets", "pets@3"):
        (tmp_path / name).mkdir()
    monkeypatch.setenv("HOME", str(tmp_path))
    default = parse_datasets(["folder:other"])[0].epochs

    def parsed(text):
        [member] = parse_datasets([text])
        return member.dataset, member.epochs

    for where in (tmp_path, "~"):
        uni, pets = f"folder:{where}/me@uni", f"folder:{where}/pets"
        assert parsed(uni) == (uni, default)
        assert parsed(f"{uni}@7") == (uni, 7)
        assert parsed(f"{pets}@2") == (pets, 2)
        assert parsed(f"{pets}@3") == (f"{pets}@3", default)
        assert parsed(f"{pets}/@3") == (f"{pets}/", 3)
    with pytest.raises(UserError, match=r"number of epochs .*, or there is no folder /x/me@uni"):
        parse_datasets(["folder:/x/me@uni"])
    with pytest.raises(UserError, match=r"needs a number of epochs after the @$"):
        parse_datasets(["stl10@²"])


@pytest.mark.parametrize(("classes", "tasks"), [(2, 1), (5, 2), (10, 5), (30, 10)])
def test_tasks_of_at_least_two_classes(monkeypatch, classes, tasks):
    names = tuple(map(str, range(classes)))
    source = Source(np.zeros((classes, 1, 1, 3), np.uint8), np.arange(classes), names)
    monkeypatch.setattr(building, "load_source", lambda *_: source)
    scenario = build(dataset="made up", num_tasks=None, allow_unequal=True)
    assert len(scenario.tasks) == tasks
    assert min(len(task.classes) for task in scenario.tasks) >= 2


@pytest.fixture
def pets(tmp_path):
    """Five images of each of 3 classes, without train/ and test/."""
    for name in ("cat", "dog", "red_fox"):
        for number in range(5):
            path = tmp_path / "pets" / name / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (4, 4)).save(path)
    return tmp_path / "pets"


def test_an_unsplit_folder_is_split_with_a_note(pets):
    scenario = build(dataset=f"folder:{pets}", num_tasks=1)
    assert [len(scenario.tasks[0].train), len(scenario.tasks[0].test)] == [12, 3]
    (note,) = scenario.notes
    assert note.startswith("pets has no train/ and test/: 3 of its 15 images are test images")


@pytest.mark.parametrize("kind", ["class", "data", "datasets"])
def test_models_can_be_tested_without_training_images(pets, kind):
    name = f"folder:{pets}"
    config = ScenarioConfig(kind=kind, dataset=name, datasets=(name,), num_tasks=1)
    scenario = build_test_scenario(config, 5)
    (task,) = scenario.tasks
    assert [len(task.train), len(task.test)] == [0, 15]
    assert scenario.heads[0].class_names == ("cat", "dog", "red fox")
    (note,) = scenario.notes
    assert note == "pets has no train/ and test/: all of its 15 images are test images"


def test_class_names_of_several_data_sets_are_noted(monkeypatch):
    names = {"a": ("Cat", "dog", "bird"), "b": ("cat", "cow", "bird"), "c": ("cow", "owl")}
    monkeypatch.setattr(
        building,
        "load_source",
        lambda dataset, *_: Source(
            np.zeros((len(names[dataset]), 1, 1, 3), np.uint8),
            np.arange(len(names[dataset]), dtype=np.int32),
            names[dataset],
        ),
    )
    (note,) = build(kind="datasets", datasets=("a", "b", "c")).notes
    assert note.startswith(
        "data sets share class names ('cat' of a and b, 'bird' of a and b, 'cow' of b and c): "
    )
    assert build(kind="datasets", datasets=("a", "c")).notes == ()


def test_mistakes_are_named(two_domains):
    with pytest.raises(UserError, match=r"has 3 classes; scenario.num_tasks=4 is more"):
        build(dataset="folder", num_tasks=4)
    with pytest.raises(
        UserError, match=r"num_tasks=2 leaves unequal tasks \(1, 2\): pass scenario.allow_un"
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

    monkeypatch.setattr(building, "load_source", load)
    with pytest.raises(UserError, match=message):
        build(dataset="folder", num_tasks=1)


def test_tasks_need_images(monkeypatch):
    source = Source(np.zeros((2, 1, 1, 3), np.uint8), np.zeros(2, np.int32), ("ant", "bee"))
    monkeypatch.setattr(building, "load_source", lambda *_: source)
    with pytest.raises(UserError, match="task 2 has no training images"):
        build(dataset="folder", num_tasks=2)


@needs_shared("tensorflow_datasets/cifar100")
def test_cifar100_in_the_published_order():
    data_dir = str(SHARED / "tensorflow_datasets")
    scenario = build(dataset="cifar100", data_dir=data_dir, num_tasks=10)
    assert_partition(scenario)
    assert scenario.tasks[0].classes.tolist()[:4] == [70, 89, 11, 13]
    assert [len(task.train) for task in scenario.tasks] == [2000] * 10
    assert "aquarium_fish" in scenario.heads[0].class_names
    plain = build(dataset="cifar100", data_dir=data_dir, num_tasks=10, names="plain")
    assert "aquarium fish" in plain.heads[0].class_names
    assert (plain.tasks[0].epochs, plain.name) == (10, "cifar100, class-incremental")
    with pytest.raises(UserError, match=r"num_tasks=3 leaves unequal tasks \(33, 33, 34\)"):
        build(dataset="cifar100", data_dir=data_dir, num_tasks=3)


@needs_shared("data/pacs")
def test_pacs_domains():
    scenario = build(kind="domain", dataset="folder", data_dir=str(SHARED / "data/pacs"))
    assert_partition(scenario)
    assert [len(task.test) for task in scenario.tasks] == [168, 168, 168, 166]
