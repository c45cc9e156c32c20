"""Heads with classes in another order are merged label by label or refused."""

import json

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from magmax_jax.io.safetensors.reader import Reader, open_tensors
from magmax_jax.merge_files.job import Job
from magmax_jax.merge_files.labels import in_rows
from magmax_jax.merge_files.planner import make_plan
from magmax_jax.merge_files.state import read_state
from tests.merge_files.conftest import merge

ORDER = [2, 0, 1]
LABELS = ["cat", "dog", "owl"]
OTHERS = [LABELS[i] for i in ORDER]
UNNAMED = ["LABEL_0", "LABEL_1", "LABEL_2"]


@pytest.fixture
def classifier(tmp_path):
    """Writes a model with a head; returns its directory and its tensors."""

    def write(name, labels, seed, head="classifier", table="id2label", rows=3):
        random = np.random.default_rng(seed)
        content = {
            "enc": random.normal(size=(5, 3)).astype(np.float32),
            f"{head}.weight": random.normal(size=(rows, 1000)).astype(np.float32),
            f"{head}.bias": random.normal(size=rows).astype(np.float32),
        }
        directory = tmp_path / name
        directory.mkdir()
        save_file(content, directory / "model.safetensors")
        ids = dict(enumerate(labels))
        tables = {"id2label": ids, "label2id": {label: i for i, label in ids.items()},
                  "label_names": labels}  # fmt: skip
        config = {"model_type": "vit", table: tables[table]}
        (directory / "config.json").write_text(json.dumps(config))
        return directory, content

    return write


def plan_of(pretrained, *models, **options):
    return make_plan(Job(str(pretrained), tuple(map(str, models)), **options))


@pytest.mark.parametrize(
    ("rule", "base"), [("average", UNNAMED), ("max_magnitude", LABELS)], ids=["unnamed", "named"]
)
def test_rows_are_merged_label_by_label(classifier, tmp_path, rule, base):
    theta_0, zero = classifier("base", base, 0)
    one, first = classifier("one", LABELS, 1)
    two, second = classifier("two", OTHERS, 2)
    same, _ = classifier("same", LABELS, 3)
    back = [ORDER.index(i) for i in range(3)]
    in_order = {n: t[back] if "classifier" in n else t for n, t in second.items()}
    save_file(in_order, same / "model.safetensors")
    flags = ["--rule", rule, "--pretrained", theta_0, "--finetuned", one]
    assert merge(*flags, two, "--output", tmp_path / "out") == 0
    assert merge(*flags, same, "--output", tmp_path / "wanted") == 0
    found, wanted = (load_file(tmp_path / n / "model.safetensors") for n in ("out", "wanted"))
    for name in found:
        np.testing.assert_array_equal(found[name], wanted[name])
    if rule == "average":
        expected = (
            zero["classifier.bias"]
            + (
                first["classifier.bias"]
                + second["classifier.bias"][back]
                - 2 * zero["classifier.bias"]
            )
            / 2
        )
        np.testing.assert_allclose(found["classifier.bias"], expected, atol=1e-6)
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert list(config["id2label"].values()) == LABELS


@pytest.mark.parametrize(
    ("head", "rows"),
    [("classifier.out_proj", 3), ("score", 3), ("classification_head.out_proj", 3), ("fc", 3),
     ("classifier.1", 3), ("decode_head.classifier", 3), ("class_labels_classifier", 4)],
)  # fmt: skip
def test_heads_by_many_names(classifier, head, rows):
    theta_0, _ = classifier("base", LABELS, 0, head, rows=rows)
    two, second = classifier("two", OTHERS, 2, head, rows=rows)
    plan = plan_of(theta_0, two)
    back = [ORDER.index(i) for i in range(3)] + list(range(3, rows))
    (model,) = plan.models
    for name in (f"{head}.weight", f"{head}.bias"):
        np.testing.assert_array_equal(model.load(name), second[name][back])
    np.testing.assert_array_equal(model.load("enc"), second["enc"])
    (note,) = plan.notes
    assert "two has its classes in another order" in note and f"{head}.weight" in note


@pytest.mark.parametrize("table", ["label2id", "label_names"])
def test_equivalent_tables_give_the_same(classifier, tmp_path, table):
    theta_0, _ = classifier("base", UNNAMED, 0, table=table)
    one, two = (classifier(n, labels, 2, table=table)[0] for n, labels in
                (("one", LABELS), ("two", OTHERS)))  # fmt: skip
    flags = ["--pretrained", theta_0, "--finetuned", one, two]
    assert "two has its classes in another order" in plan_of(theta_0, one, two).notes[0]
    assert merge(*flags, "--output", tmp_path / "out") == 0
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert list(config.get("label_names") or config["label2id"]) == LABELS


def test_spelling_does_not_matter(classifier):
    theta_0, _ = classifier("base", ["great_white", "dog", "owl"], 0)
    two, _ = classifier("two", ["Great White", "Dog", "OWL"], 2)
    plan = plan_of(theta_0, two)
    assert plan.notes == plan.problems == []


def test_other_classes_are_refused_unless_theta_0s_head_is_kept(classifier):
    theta_0, _ = classifier("base", UNNAMED, 0)
    one, _ = classifier("one", LABELS, 1)
    two, _ = classifier("two", ["spam", "ham", "owl"], 2)
    (problem,) = plan_of(theta_0, one, two).problems
    flag, *patterns = problem.split("--")[1].split()
    assert f"{two}: its classes" in problem and "spam" in problem and flag == "exclude"
    assert plan_of(theta_0, one, two, exclude=tuple(patterns)).problems == []


def test_models_that_agree_have_their_labels_in_the_output(classifier, tmp_path):
    theta_0, _ = classifier("base", ["spam", "ham", "eggs"], 0)
    one, two = (classifier(n, labels, 1)[0] for n, labels in (("one", LABELS), ("two", OTHERS)))
    flags = ["--pretrained", theta_0, "--finetuned", one, two]
    assert merge(*flags, "--output", tmp_path / "out") == 0
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert list(config["id2label"].values()) == LABELS
    assert config["label2id"] == {"cat": 0, "dog": 1, "owl": 2}
    found = plan_of(theta_0, one, two).notes
    assert any("the models' labels" in note and "spam" in note for note in found)


def test_a_state_keeps_the_order(classifier, tmp_path, capsys):
    """Later models are reordered to match earlier ones."""
    theta_0, _ = classifier("base", UNNAMED, 0)
    orders = {"one": LABELS, "two": OTHERS, "three": ["a", "b", "c"]}
    models = [classifier(n, order, i)[0] for i, (n, order) in enumerate(orders.items(), start=1)]
    rule, state = ["--rule", "average"], ["--state", tmp_path / "state"]
    base = ["--pretrained", theta_0, "--finetuned"]
    assert merge(*rule, *base, *models[:2], "--output", tmp_path / "once") == 0
    assert merge(*rule, *base, models[0], *state, "--output", tmp_path / "first") == 0
    assert merge("--finetuned", models[1], *state, "--output", tmp_path / "second") == 0
    once, second = (load_file(tmp_path / n / "model.safetensors") for n in ("once", "second"))
    for name in once:
        np.testing.assert_allclose(second[name], once[name], atol=1e-6)
    assert "cat" in (tmp_path / "second" / "config.json").read_text()
    assert merge("--finetuned", models[2], *state, "--output", tmp_path / "third") == 2
    assert "differ from cat, dog, owl" in capsys.readouterr().err


def test_a_state_has_room_for_many_labels(classifier, tmp_path):
    labels = [f"\u9577\u3044\u540d\u524d {i}" for i in range(2000)]
    theta_0, _ = classifier("base", labels, 0, rows=2000)
    one, _ = classifier("one", labels[::-1], 1, rows=2000)
    flags = ["--pretrained", theta_0, "--finetuned", one, "--state", tmp_path / "state"]
    assert merge(*flags, "--output", tmp_path / "out") == 0
    assert read_state(tmp_path / "state")[0].labels == tuple(labels)


@pytest.mark.parametrize("shape", [(), (2, 1000)])
def test_heads_of_other_shapes_are_a_problem(classifier, shape):
    theta_0, _ = classifier("base", LABELS, 0)
    two, content = classifier("two", OTHERS, 2)
    content["classifier.weight"] = np.ones(shape, np.float32)
    save_file(content, two / "model.safetensors")
    (problem,) = plan_of(theta_0, two).problems
    assert "classifier.weight has shape" in problem


def test_a_head_with_an_unknown_name_is_noted(classifier):
    theta_0, _ = classifier("base", LABELS, 0, "top")
    two, _ = classifier("two", OTHERS, 2, "top")
    plan = plan_of(theta_0, two)
    assert "if top." in plan.notes[0] and not plan.problems


def test_encoders_without_a_head_are_not_noted(classifier):
    theta_0, _ = classifier("base", LABELS, 0)
    two, _ = classifier("two", OTHERS, 2)
    assert plan_of(theta_0, two, include=("enc",)).notes == []


def test_models_without_labels_are_merged_unchanged(classifier):
    theta_0, _ = classifier("base", LABELS, 0)
    two, _ = classifier("two", UNNAMED, 2)
    plan = plan_of(theta_0, two)
    assert plan.notes == plan.problems == []


def test_rows_in_another_order(tmp_path):
    content = np.arange(24, dtype=np.float16).reshape(4, 3, 2)
    save_file({"a": content, "b": content[0]}, tmp_path / "model.safetensors")
    order = (2, 0, 3, 1)
    tensor = in_rows(open_tensors(tmp_path).tensors["a"], order)
    with Reader() as reader:
        np.testing.assert_array_equal(reader.whole(tensor), content[list(order)])
        for start, stop in ((0, 1), (5, 13), (7, 24)):
            out = np.empty(stop - start, np.float16)
            reader.into(out, tensor, start)
            np.testing.assert_array_equal(out, content[list(order)].reshape(-1)[start:stop])
