"""From a source to batches of pixels, read and decoded on the host; the device does the rest."""
