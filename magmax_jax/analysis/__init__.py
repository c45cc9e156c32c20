"""What the paper argues with, measured on any pytrees."""
