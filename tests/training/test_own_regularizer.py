"""A user-registered regularizer works everywhere, defined in this file alone."""

import json
from dataclasses import replace

import jax
import jax.numpy as jnp
import pytest

from magmax_jax.api.presets import paper
from magmax_jax.cli.run import parse
from magmax_jax.config import (
    ExperimentConfig,
    MethodConfig,
    ModelConfig,
    ScenarioConfig,
    TrainConfig,
)
from magmax_jax.errors import UserError
from magmax_jax.merging import rules
from magmax_jax.models import image_features, known_shape
from magmax_jax.registry import REGULARIZERS
from magmax_jax.report.groups import short_names
from magmax_jax.report.paper_table import columns, find_runs
from magmax_jax.runs.directory import RunDirectory
from magmax_jax.runs.estimate import data_size, estimate
from magmax_jax.runs.studies import overhead, study
from magmax_jax.runs.train import run
from magmax_jax.training import Regularizer, RegularizerSpec, Setup, check_method


def mas(setup: Setup) -> Regularizer:
    """Memory-aware synapses (Aljundi et al., 2018, arXiv 1711.09601), of squared logit norms."""

    def init(theta_0):
        return theta_0, jax.tree.map(jnp.zeros_like, theta_0)

    def penalty(memory, params, forward):
        terms = jax.tree.map(
            lambda new, old, weight: jnp.sum(weight * jnp.square(new - old)), params, *memory
        )
        return setup.strength * sum(jax.tree.leaves(terms))

    @jax.jit
    def weigh(params, batch, head):
        def length(params):
            pixels = setup.preprocessing.evaluate(batch.image, batch.box)
            logits = image_features(setup.tower, params, pixels) @ head
            return jnp.sum(jnp.where(batch.mask[:, None], jnp.square(logits), 0))

        return jax.tree.map(jnp.abs, jax.grad(length)(params))

    def consolidate(memory, params, batches, objective):
        weights = memory[1]
        for batch in batches:
            weights = jax.tree.map(jnp.add, weights, weigh(params, batch, objective.head))
        return params, weights

    return Regularizer(init, penalty, consolidate)


@pytest.fixture(autouse=True)
def registered():
    spec = RegularizerSpec("MAS", mas, strength=0.5, passes_per_image=2, passes_per_task=3)
    REGULARIZERS.register("mas", spec)
    yield
    REGULARIZERS.unregister("mas")


@pytest.fixture
def config(tiny_clip) -> ExperimentConfig:
    return ExperimentConfig(
        model=ModelConfig(str(tiny_clip)),
        scenario=ScenarioConfig(dataset="digits", num_tasks=2, limit_per_class=3),
        method=MethodConfig(regularizer="mas"),
        train=TrainConfig(epochs=1, batch_size=8, learning_rate=1e-3, warmup_fraction=0.1),
        merges=(),
    )


def test_the_command_line_offers_it(capsys):
    method = parse(["quickstart", "--method.regularizer", "mas"]).config.method
    assert method == MethodConfig(regularizer="mas")
    with pytest.raises(SystemExit):
        parse(["quickstart", "--help"])
    assert "{none,ewc,lwf,l2_sp,mas}" in capsys.readouterr().out
    REGULARIZERS.unregister("mas")
    with pytest.raises(SystemExit) as ended:
        parse(["quickstart", "--method.regularizer", "mas"])
    assert ended.value.code == 2 and "invalid choice 'mas'" in capsys.readouterr().err


def test_its_facts_decide_which_configurations_are_refused(config):
    check_method(config.method)
    for wrong, message in [
        ({"sequential": False}, "mas keeps a task close to the previous one"),
        ({"joint": True}, "nor method.regularizer ewc or lwf or mas applies to it"),
        ({"fisher": "batch"}, "to method.regularizer ewc only, not to mas"),
    ]:
        with pytest.raises(UserError, match=message):
            estimate(
                replace(config, method=replace(config.method, **wrong)),
                data_size(config.scenario, 5),
            )
    with pytest.raises(UserError, match=r"'sam' is not a regularizer: choose from none, .*, mas"):
        MethodConfig(regularizer="sam")


def test_published_options_come_from_the_regularizer(config):
    assert paper(config).method == config.method
    assert paper(replace(config, method=MethodConfig(regularizer="ewc"))).method == MethodConfig(
        regularizer="ewc", fisher="accumulated"
    )


def test_its_passes_are_part_of_the_plan(config):
    size = data_size(config.scenario, config.seed)
    found, plain = estimate(config, size), estimate(replace(config, method=MethodConfig()), size)
    one = known_shape(config.model.source, config.model.image_size)[0].forward_flops()
    assert found.flops - plain.flops == one * (2 * found.images + 3 * 30)
    assert found.nbytes > plain.nbytes  # its memory


def test_a_run_learns_with_it_and_tables_and_studies_name_it(config, tmp_path, monkeypatch):
    out = RunDirectory(tmp_path / "run")
    run(config, out)
    steps = [json.loads(line) for line in out.metrics.read_text().splitlines()]
    free = [step["penalty"] for step in steps if step["task"] == 1 or step["step"] == 1]
    held = [step["penalty"] for step in steps if step["task"] == 2 and step["step"] > 1]
    assert not any(free) and held and min(held) > 0
    assert short_names([config]) == ["MAS"]
    [column] = columns(find_runs([out.path])[0], "last_accuracy", None)
    assert {"zero-shot", "MAS"} == set(column.values)
    monkeypatch.setattr(rules, "RULES", {})
    some = {name: REGULARIZERS[name] for name in ("none", "mas")}
    monkeypatch.setattr(overhead, "REGULARIZERS", some)
    study(out, ["overhead"])
    text = (out.path / "analysis" / "overhead.jsonl").read_text()
    for what in ("training step", "MAS: step", "MAS: consolidation"):
        assert f'"what": "{what}"' in text
