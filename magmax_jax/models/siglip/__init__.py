"""SigLIP and SigLIP 2: both towers, their checkpoints, their entry among the model families."""
