"""Any form in which users hold a split becomes a source, or is refused."""

import pickle
from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from magmax_jax.data import Source, as_source
from magmax_jax.data.digest import digest
from magmax_jax.errors import UserError

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (6, 4, 5), np.uint8)
RGB = np.repeat(GREY[..., None], 3, axis=-1)
LABELS = [0, 1, 0, 1, 0, 1]
NAMES = ("cat", "dog")


def pixels(source: Source) -> np.ndarray:
    return np.stack([source.images[i] for i in range(len(source))])


class Lazy:
    """A sequence that decodes on demand."""

    def __init__(self, items):
        self.items = items

    def __len__(self):
        return len(self.items)

    def __getitem__(self, index):
        return self.items[index]


class Pairs(Lazy):
    """A PyTorch map-style dataset."""

    classes = NAMES

    def __getitem__(self, index):
        return self.items[index], LABELS[index]


def paths(folder):
    files = [folder / f"{i}.png" for i in range(len(GREY))]
    for file, image in zip(files, GREY, strict=True):
        Image.fromarray(image).save(file)
    return files


PICTURES = [Image.fromarray(image) for image in GREY]
FORMS = {
    "rgb": lambda _: RGB,
    "grey": lambda _: GREY,
    "one channel": lambda _: GREY[..., None],
    "jax": lambda _: jnp.asarray(RGB),
    "list of arrays": lambda _: list(GREY),
    "list of pictures": lambda _: list(PICTURES),
    "pictures on demand": lambda _: Lazy(PICTURES),
    "arrays on demand": lambda _: Lazy(GREY),
    "paths": lambda folder: paths(folder),
    "names of paths": lambda folder: [str(path) for path in paths(folder)],
}


@pytest.mark.parametrize("form", FORMS)
def test_images_in_every_form_give_the_same_source(form, tmp_path):
    source = as_source(Source(FORMS[form](tmp_path), LABELS, NAMES))
    np.testing.assert_array_equal(pixels(source), RGB)
    assert pixels(source).dtype == np.uint8 and source.image_shape == (4, 5)
    assert source.labels.dtype == np.int32 and source.labels.tolist() == LABELS
    assert source.class_names == NAMES and digest([source]) == digest([as_source(source)])
    sent = pickle.loads(pickle.dumps(source))  # to a worker process
    assert digest([sent]) == digest([source]) == digest([as_source((RGB, LABELS, NAMES))])


def test_other_containers_give_the_same_source():
    pairs = list(zip(PICTURES, LABELS, strict=True))
    members = SimpleNamespace(images=GREY, labels=np.array(LABELS, np.uint8), class_names=NAMES)
    targets = Pairs(PICTURES)
    targets.targets = LABELS
    for source in (
        as_source(members),
        as_source((GREY, LABELS), NAMES),
        as_source(iter(pairs), class_names=list(NAMES)),
        as_source(pairs, NAMES),
        as_source(Pairs(PICTURES)),
        as_source(targets),
    ):
        np.testing.assert_array_equal(pixels(source), RGB)
        assert (source.labels.tolist(), source.class_names) == (LABELS, NAMES)


def test_pictures_of_any_mode_and_size():
    modes = [Image.fromarray(RGB[0]).convert(mode) for mode in ("RGB", "L", "RGBA", "P", "CMYK")]
    source = as_source((Lazy([*modes, PICTURES[0].resize((9, 3))]), LABELS, NAMES))
    assert [source.images[i].shape for i in range(6)] == [(4, 5, 3)] * 5 + [(3, 9, 3)]
    assert source.image_shape is None


def test_domains_are_kept():
    data = Source(GREY, LABELS, NAMES, domains=[0, 0, 1, 1, -1, 0], domain_names=["ink", "oil"])
    source = as_source(data)
    assert source.domains.dtype == np.int32 and source.domain_names == ("ink", "oil")
    data = Source(GREY, LABELS, NAMES, domains=[0, 0, 1, 2, 0, 0], domain_names=["ink", "oil"])
    with pytest.raises(UserError, match="domain 2 of image 3 is out of range: with 2 names"):
        as_source(data, where="train")


def test_the_digest_changes_with_the_data():
    changed = RGB.copy()
    changed[3, 0, 0, 0] ^= 1
    digests = {
        digest([as_source(data)])
        for data in [
            (RGB, LABELS, NAMES),
            (changed, LABELS, NAMES),
            (RGB, [1, *LABELS[1:]], NAMES),
            (RGB, LABELS, ("dog", "cat")),
            (RGB[:5], LABELS[:5], NAMES),
        ]
    }
    assert len(digests) == 5


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ((RGB / 255, LABELS, NAMES), r"float64.*convert them with \(255 \* images\).round\(\)"),
        ((RGB.astype("f4"), LABELS, NAMES), r"float32.*convert them with images.round\(\)"),
        ((RGB / 128 - 1, LABELS, NAMES), "before they were normalised"),
        ((RGB.astype(int), LABELS, NAMES), r"int64.*convert them with images.astype\('uint8'\)"),
        ((RGB.transpose(0, 3, 1, 2), LABELS, NAMES), r"channels first: transpose\(0, 2, 3, 1\)"),
        ((Lazy(RGB.transpose(0, 3, 1, 2)), LABELS, NAMES), r"image 0: .*transpose\(1, 2, 0\)"),
        ((RGB[..., :2], LABELS, NAMES), r"shape \(6, 4, 5, 2\) is not that of RGB or grey"),
        ((["a.png", *RGB[:5]], LABELS, NAMES), "image 0: pixels are <U5, not uint8"),
        ((iter(RGB), LABELS, NAMES), "pass an array"),
        (([], [], NAMES), "there are no images"),
        ((RGB, LABELS[:5], NAMES), "there are 6 images and 5 labels"),
        ((RGB, [0, 1, 0, 1, 0, 2], NAMES), "label 2 of image 5 is out of range.*0 to 1"),
        ((RGB, [0, 1, 0, 1, 0, -1], NAMES), "label -1 of image 5"),
        ((RGB, np.eye(2)[LABELS], NAMES), r"\(6, 2\), not \(n,\): pass labels.argmax\(axis=1\)"),
        ((RGB, np.array(LABELS)[:, None], NAMES), r"pass labels.ravel\(\)"),
        ((RGB, ["cat", "dog"] * 3, NAMES), "labels are <U3: pass integers"),
        ((RGB, [0, 1, [2]], NAMES), "labels cannot be read as an array"),
        ((RGB, LABELS), "there are no class names"),
        ((RGB, LABELS, ()), "there are no class names"),
        (iter([(RGB[0], 0)]), "there are no class names"),
        (Lazy(RGB), r"its items are ndarray, not \(image, label\)"),
        ("shapes", r"'shapes' is a path: .*dataset='folder:shapes'"),
        (RGB, "a ndarray is not a split of a data set: pass mm.Source"),
        (3, "a int is not a split"),
        ({"image": RGB, "label": LABELS}, r"its items are str, not \(image, label\)"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_unusable_input_is_refused_with_a_remedy(data, message):
    with pytest.raises(UserError, match=f"^train: .*{message}|^train: {message}"):
        as_source(data, where="train")
