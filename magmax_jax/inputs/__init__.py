"""What models take: images as pixels, class names as prompts; data sets and models share it."""
