"""From a source to batches of pixels: reading and decoding on the host, the rest on the device."""
