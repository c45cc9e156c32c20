"""Colours and markers that colour-blind readers can distinguish, and display names of models."""

import re
from typing import Any

from magmax_jax.runs.model_ref import FINETUNED, ZERO_SHOT

# Okabe and Ito's colours plus two more; black is for the pretrained model.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8C564B", "#7F7F7F")
MARKERS = "osD^vP*X"
DASHES = (
    "-",
    "--",
    "-.",
    (0, (1, 1)),
    (0, (5, 1, 1, 1, 1, 1)),
    (0, (8, 2)),
    (0, (3, 3)),
    (0, (2, 4)),
)
JOINT = "joint_training"
TITLES = {ZERO_SHOT: "zero-shot", FINETUNED: "last fine-tuned", JOINT: "joint training"}
FLAT = {ZERO_SHOT: ":", JOINT: "-."}
"""Models that do not change with the tasks: horizontal lines."""

INK, MUTED, GRID, SURFACE = "#1f2937", "#6b7280", "#e5e7eb", "#ffffff"
DARK = {INK: "#e5e7eb", MUTED: "#9ca3af", GRID: "#333a45", SURFACE: "#161a21"}
"""Colours of light figures mapped to dark ones; the style sheet has the same."""
ON_LIGHT, ON_DARK = "#101010", "#fefefe"
"""Text on a heat map's cells, which look the same in both themes: not one of the colours above."""

RC: dict[Any, Any] = {  # to matplotlib's types, keys are literals
    "axes.axisbelow": True,
    "axes.edgecolor": MUTED,
    "axes.facecolor": SURFACE,
    "axes.grid": True,
    "axes.labelcolor": INK,
    "axes.labelsize": 10,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "figure.facecolor": SURFACE,
    "font.sans-serif": ["Helvetica Neue", "Arial", "DejaVu Sans", "sans-serif"],
    "font.size": 10,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "legend.fontsize": 9.5,
    "legend.frameon": False,
    "lines.linewidth": 1.8,
    "lines.markersize": 5,
    "savefig.facecolor": SURFACE,
    # Text stays text: small files, rendered with the reader's own fonts.
    "svg.fonttype": "none",
    "svg.hashsalt": "magmax_jax",
    "text.color": INK,
    "text.parse_math": False,  # a class may be called $x$
    "xtick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.color": MUTED,
    "ytick.labelcolor": INK,
}
"""matplotlib's settings for every figure."""


def title_of(label: str) -> str:
    """Display name of a model: words for built-in models, otherwise its label."""
    return TITLES.get(label, label)


def slug(*words: object) -> str:
    """Words as a file's name or an element's id: lower-case letters, digits and hyphens."""
    return re.sub(r"[^a-z0-9]+", "-", " ".join(map(str, words)).lower()).strip("-")
