"""Every task brings another data set with its own head: the paper's eight data sets.

Setting of arXiv 2407.06322: the class-incremental recipe, each data set with its published number
of epochs, in the published order; the figure is the mean over the data sets of the accuracy with
each one's own head.
"""

from magmax_jax.cli.grid.settings.cell import Cell, joint, stream
from magmax_jax.config import ExperimentConfig, ScenarioConfig


def eight() -> list[Cell]:
    """Cars, MNIST, EuroSAT, SVHN, RESISC45, SUN397, DTD and GTSRB, one after another.

    Expected, from settings other than this one: ViT-B/32 and 2,500 steps per task, MagMax 80.56 %,
    independent 70.70 %; ViT-B/16 and eight independent checkpoints in random orders, zero-shot
    55.4 %, sequential 82.9 %, average 72.3 %, MagMax 76.7 % (all as later papers quote them).
    Cost per seed: 5 trainings of 17,900 steps, 1,620 PFLOP: 4.5 GPU-hours at 100 TFLOP/s.
    """
    config = ExperimentConfig(scenario=ScenarioConfig(kind="datasets", datasets=("eight",)))
    return [*stream("eight", config), joint("eight", config)]
