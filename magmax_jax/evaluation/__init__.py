"""Evaluation on test images, the resulting rows, and metrics computed from a run's rows."""
