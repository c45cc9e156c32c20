"""A small class- and domain-incremental grid: all methods, minutes on two cores.

The figures come from a small model on few images: they show that everything works together, not
which method is best.
"""

from dataclasses import replace
from pathlib import Path

from magmax_jax.api.presets import TINY_CLIP
from magmax_jax.cli.grid.settings.cell import Cell, joint, stream
from magmax_jax.config import ExperimentConfig, ModelConfig, ScenarioConfig, TrainConfig
from magmax_jax.errors import UserError

MODEL, DATA = "models/clip-vit-tiny-patch16-224", "tensorflow_datasets"
PACS = "data/pacs"
BESIDE = Path(__file__).resolve().parents[5] / "shared"
"""Default location of the assets: beside the repository."""

RECIPE = TrainConfig(epochs=2, batch_size=16, learning_rate=1e-4, warmup_fraction=0.1)


def assets_or_none(given: Path | None) -> Path | None:
    """The folder with a real small CLIP, CIFAR-100 and PACS; None if there is none.

    Raises:
      UserError: a folder is given that lacks one of the three.
    """
    folder = given or BESIDE
    missing = [name for name in (MODEL, f"{DATA}/cifar100", PACS) if not (folder / name).is_dir()]
    if not missing:
        return folder
    if given:
        raise UserError(
            f"--assets {given} lacks {', '.join(missing)}: name a folder that holds them, or leave "
            "--assets out to use the bundled ones"
        )
    return None


def smoke(assets: Path | None = None) -> list[Cell]:
    """CIFAR-100 in 5 tasks and PACS in its 4 domains, 3 and 8 images of each class (and domain).

    Without an assets folder it uses scikit-learn's digits in 5 tasks and in 3 styles, with the
    bundled small CLIP; nothing is downloaded either way.
    Expected: no published figure; MagMax and the averages end above zero-shot.
    Cost per seed: 10 trainings of about a minute each on two cores.
    """
    folder = assets_or_none(assets)
    if folder is None:
        model, recipe = ModelConfig(TINY_CLIP), replace(RECIPE, learning_rate=3e-4)
        settings = {
            "digits-5": ScenarioConfig(dataset="digits", num_tasks=5),
            "digits-styles": ScenarioConfig(kind="domain", dataset="digits_styles"),
        }
    else:
        # 112 pixels cost a quarter of the model's 224.
        model, recipe = ModelConfig(str(folder / MODEL), image_size=112), RECIPE
        settings = {
            "cifar100-5": ScenarioConfig(
                data_dir=str(folder / DATA), num_tasks=5, limit_per_class=3
            ),
            "pacs-domains": ScenarioConfig(
                kind="domain", dataset="folder", data_dir=str(folder / PACS), limit_per_class=8
            ),
        }
    cells = []
    for name, scenario in settings.items():
        config = ExperimentConfig(model=model, scenario=scenario, train=recipe)
        cells += [*stream(name, config), joint(name, config)]
    return cells
