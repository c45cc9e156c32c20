"""Programs that are killed at random moments, over and over, and end as undisturbed ones do."""
