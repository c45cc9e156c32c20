"""Named tensors in files, read lazily, and atomic writes of files and directories."""
