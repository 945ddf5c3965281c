"""Pictures of a campaign."""

from collections.abc import Sequence
from pathlib import Path


def plot_memory(memory: Sequence[tuple[float, int]], path: Path) -> Path:
    """Memory (bytes) over time (s); the name of the file says its format."""
    # Nothing else needs it, and it takes a second to import.
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 2.5), layout="constrained")
    axes = figure.subplots()
    axes.plot([at for at, _ in memory], [size / 1e6 for _, size in memory])
    axes.set(xlabel="s", ylabel="MB", title="memory during the campaign", ylim=(0, None))
    axes.grid(alpha=0.3)
    figure.savefig(path)
    return path
