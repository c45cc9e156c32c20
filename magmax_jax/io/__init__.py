"""Named tensors in files, read when they are asked for, and directories that appear whole."""
