import io
import pickle

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

from magmax_jax.data import DataSet, FromTfds, SeededSplit, load_source
from magmax_jax.data.readers import label_cache
from tests.data import SHARED, needs_shared
from tests.data.rows import ROWS, with_tfds
from tests.data.test_sources import picture


class ToyTextures(tfds.core.GeneratorBasedBuilder):
    """An image with a mask and a box, as in birds and pets."""

    VERSION = tfds.core.Version("1.0.0")
    url_infos = {}  # noqa: RUF012  (TFDS would look for its list of checksums in its own package)

    def _info(self):
        features = {
            "image": tfds.features.Image(encoding_format="png"),
            "label": tfds.features.ClassLabel(num_classes=3),
            "bbox": tfds.features.BBoxFeature(),
            "mask": tfds.features.Image(shape=(None, None, 1)),
            "filename": tfds.features.Text(),
        }
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _split_generators(self, dl_manager):
        sizes = {"train": 4, "validation": 2, "test": 3}
        return {split: self._generate_examples(split, size) for split, size in sizes.items()}

    def _generate_examples(self, split, size):
        def png(channels, seed):
            buffer = io.BytesIO()
            Image.fromarray(picture(seed, channels=channels).squeeze()).save(buffer, "PNG")
            return io.BytesIO(buffer.getvalue())

        for i in range(size):
            box = tfds.features.BBox(0.0, 0.0, 1.0, 1.0)
            record = {"image": png(3, i), "mask": png(1, i), "bbox": box, "label": i % 3}
            yield i, record | {"filename": f"{split}_{i}.png"}


def test_files_are_read_without_tensorflow(tmp_path, monkeypatch):
    builder = tfds.builder("toy_textures", data_dir=tmp_path, file_format="array_record")
    builder.download_and_prepare()
    facts = FromTfds(builder="toy_textures", train="train+validation")
    toys = DataSet(name="toys", tfds=facts, classes=3, train_size=6, test_size=3)
    monkeypatch.setitem(ROWS, "toys", toys)
    train, test = (load_source("toys", split, str(tmp_path)) for split in ("train", "test"))
    assert sorted(train.labels) == [0, 0, 0, 1, 1, 2] and sorted(test.labels) == [0, 1, 2]
    for position, label in enumerate(test.labels):
        np.testing.assert_array_equal(test.images[position], picture(label))
    copy = pickle.loads(pickle.dumps(train))
    np.testing.assert_array_equal(copy.images[5], train.images[5])
    split = SeededSplit(train=0.5, test=0.5, by_class=False)
    monkeypatch.setitem(ROWS, "toys", with_tfds(toys, train="test", split=split))
    train = load_source("toys", "train", str(tmp_path))
    monkeypatch.setattr(label_cache, "read_columns", None)  # one part for both: read once
    test = load_source("toys", "test", str(tmp_path))
    assert sorted([*train.labels, *test.labels]) == [0, 1, 2]


@needs_shared("tensorflow_datasets/cifar100")
def test_cifar100():
    source = load_source("cifar100", "test", str(SHARED / "tensorflow_datasets"))
    assert len(source) == 5000 and source.image_shape == (32, 32)
    np.testing.assert_array_equal(np.bincount(source.labels), [50] * 100)
    assert source.class_names[1] == "aquarium_fish"
    copy = pickle.loads(pickle.dumps(source))
    np.testing.assert_array_equal(copy.images[7], source.images[7])
    assert copy.images[7].shape == (32, 32, 3)
