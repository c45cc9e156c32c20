"""Names of the files and folders in a run's directory (see `RunDirectory`)."""

CONFIG, ROWS, CHECKPOINTS, REPORT = "config.json", "results.jsonl", "checkpoints", "report"
TASKS, METRICS, ABOUT, COUNTS = "tasks", "metrics.jsonl", "about.json", "counts"
SWEEP, ANALYSIS = "sweep.jsonl", "analysis"
DATA_FILES = "data_files.json.gz"
HEAD = "head.safetensors"
