"""One pass over the test images, its rows, and what the rows of a run say."""
