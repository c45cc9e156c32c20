"""Model inputs: images as pixels, class names as prompts; shared by data sets and models."""
