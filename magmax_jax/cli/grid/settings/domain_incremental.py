"""Every task brings a new domain of the same classes: the paper's domain-incremental experiments.

Setting of arXiv 2407.06322: the class-incremental recipe, one head over all classes, the published
domain orders; the figure is accuracy on all test images after the last task. The published average
divides by two, whatever the number of domains; so does `--preset paper`.
"""

from magmax_jax.cli.grid.settings.cell import Cell, joint, stream
from magmax_jax.cli.grid.settings.class_incremental import joint_of
from magmax_jax.config import ExperimentConfig, ScenarioConfig


def imagenet_r_domains() -> list[Cell]:
    """ImageNet-R's 15 renditions (art, cartoon, ..., videogame), 10 epochs each.

    Expected: in the paper; the figure was not available to us.
    Cost per seed: 4 trainings of 1,950 steps, 150 PFLOP: half a GPU-hour at 100 TFLOP/s; plus the
    joint training, which the class-incremental cells share.
    """
    return [*_stream("imagenet_r"), joint_of("imagenet_r")]


def domainnet() -> list[Cell]:
    """DomainNet's 6 domains of 345 classes, 10 epochs each: by far the most expensive setting.

    Expected: in the paper; the figure was not available to us.
    Cost per seed: 5 trainings of 32,000 steps, 2,830 PFLOP: 8 GPU-hours at 100 TFLOP/s.
    """
    scenario = ScenarioConfig(kind="domain", dataset="domainnet")
    return [*_stream("domainnet"), joint("domainnet", ExperimentConfig(scenario=scenario))]


def _stream(dataset: str) -> list[Cell]:
    scenario = ScenarioConfig(kind="domain", dataset=dataset)
    return stream(f"{dataset}-domains", ExperimentConfig(scenario=scenario))
