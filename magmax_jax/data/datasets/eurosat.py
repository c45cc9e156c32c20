"""EuroSAT: Sentinel-2 satellite images."""

from typing import Any

from magmax_jax.data.data_set import Archive, DataSet, FromTfds
from magmax_jax.data.seeded_split import SeededSplit
from magmax_jax.registry import DATA_SETS

TEMPLATES = (
    "a centered satellite photo of {}.",
    "a centered satellite photo of a {}.",
    "a centered satellite photo of the {}.",
)

# fmt: off
CLASS_NAMES = (
    "annual crop land", "forest", "brushland or shrubland", "highway or road",
    "industrial buildings or commercial buildings", "pasture land", "permanent crop land",
    "residential buildings or homes or apartments", "river", "lake or sea",
)
# fmt: on


def _archives(builder: Any, registered: tuple[Archive, ...]) -> tuple[Archive, ...]:
    """Leaves out the archive of 13-band images, which are not RGB."""
    return tuple(each for each in registered if each.url == builder.builder_config.download_url)


DATA_SETS.register(
    "eurosat",
    DataSet(
        name="eurosat",
        classes=10,
        train_size=21_600,
        test_size=2_700,
        templates=TEMPLATES,
        epochs=12,
        class_names=CLASS_NAMES,
        naming="listed",
        tfds=FromTfds(
            builder="eurosat/rgb",
            split=SeededSplit(test=0.1),
            per_class={"train": (3000, 3000, 3000, 2500, 2500, 2000, 2500, 3000, 2500, 3000)},
            choose_archives=_archives,
            links="zenodo.org/records/7711810 has the images, too: pack them as EuroSAT.zip "
            "(2750/CLASS/*.jpg) and set repacked",
        ),
    ),
)
