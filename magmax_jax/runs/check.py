"""Whether a configuration contradicts itself, before any data or model is loaded."""

from collections.abc import Callable

from magmax_jax.config import ExperimentConfig
from magmax_jax.errors import ConfigError, counted
from magmax_jax.runs.merge_specs import Merge, parse_merges, parse_refits
from magmax_jax.runs.model_ref import ModelRef
from magmax_jax.scenarios import members_of
from magmax_jax.training import check_method

START = "method.start"


def check_config(config: ExperimentConfig) -> None:
    """Raises a UserError if the method, the data sets or the merges contradict themselves."""
    check_method(config.method)
    members_of(config.scenario)
    merges = parse_merges(config)
    parse_refits(config, merges)
    for name, (rule, _) in merges.items():
        field = field_of(config, name)
        if rule.needs_fisher and not rule.from_adam:
            raise ConfigError(
                f"{field}: {name} needs every model's Fisher, which a run does not keep: "
                "leave it out"
            )
        if rule.fewest_models > 1 and field == START:
            raise ConfigError(
                f"{START}: {name} needs {rule.fewest_models} models, and task 2 starts from a "
                "merge of the first one alone: choose another rule"
            )
        if rule.fewest_models > 1:
            raise ConfigError(
                f"merges: {name} needs {rule.fewest_models} models, and a run merges after its "
                "first task, too: leave it out, or keep every task's model "
                "(checkpoint.keep_tasks=True) and merge those"
            )


def check_seed(seed: int, kept: bool) -> None:
    """Raises a ConfigError if JAX would truncate the seed to another one.

    Args:
      kept: whether a run with that seed already exists, from a version that accepted such seeds:
        it may be resumed, with the same numbers.
    """
    if seed >= 2**32 and not (kept and seed < 2**63):
        raise ConfigError(
            f"seed is {seed}: JAX keeps the low 32 bits of a seed, so training would be that of "
            f"seed {seed % 2**32}: choose one below 2^32 = {2**32}"
        )


def check_number(merges: dict[str, Merge], tasks: int, field: Callable[[str], str]) -> None:
    """Raises a ConfigError if a rule cannot merge as many models as there are tasks.

    Args:
      field: maps a rule's name to the configuration field that names it.
    """
    for name, (rule, _) in merges.items():
        if not rule.admits(tasks):
            fewest, most = rule.fewest_models, rule.most_models
            takes = f"at least {fewest}" if tasks < fewest else f"at most {most}"
            raise ConfigError(
                f"{field(name)}: {name} merges {takes} models, and this run learns "
                f"{counted(tasks, 'task')}: leave it out"
            )


def field_of(config: ExperimentConfig, rule: str) -> str:
    """The field that names a rule: `merges`, unless tasks merely start from it."""
    merged = (ModelRef.parse(merge, "merges").rule for merge in config.merges)
    return "merges" if rule in merged else START
