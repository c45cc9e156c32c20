"""Which images are fitted to a canvas on the host, and how."""

import numpy as np
import pytest

from magmax_jax.inputs.host_resize import for_evaluation, for_training, shrink, untouched


@pytest.mark.parametrize(
    ("shape", "passes"),
    [
        ((32, 32), True),
        ((420, 420), True),  # 420 = floor(1.5 ceil(1.25 224))
        ((420, 4000), True),
        ((421, 500), False),
        ((3000, 4000), False),
        (None, False),
    ],
)
def test_images_of_one_size_are_untouched_unless_larger_than_the_canvas(shape, passes):
    assert untouched(shape, 224) == passes
    assert (for_training(shape, 224) is None) == (for_evaluation(shape, 224) is None) == passes


def test_fits_announce_the_size_they_return():
    image = np.random.default_rng(0).integers(0, 256, (90, 70, 3), np.uint8)
    for fit in (for_training(None, 32), for_evaluation(None, 32)):
        fitted, (top, left, height, width) = fit.apply(image)
        assert fitted.shape == (fit.side, fit.side, 3) and fitted.dtype == np.uint8
        assert top == left == 0 and max(height, width) <= fit.side


def test_training_reads_twice_the_pixels_and_evaluation_reads_all():
    assert for_training(None, 224).least == 560
    assert for_evaluation(None, 224).least is None


def test_shrinking_trims_both_ends_equally():
    image = np.arange(9, dtype=np.uint8)[None, :, None].repeat(2, 0).repeat(3, 2)
    canvas, box = shrink(image, 8)
    assert box == (0, 0, 2, 3)
    np.testing.assert_array_equal(canvas[0, :3, 0], [3, 4, 5])
