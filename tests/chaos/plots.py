"""Pictures of a campaign."""

from collections.abc import Sequence
from pathlib import Path


def plot_memory(memory: Sequence[tuple[float, dict[str, int]]], path: Path) -> Path:
    """Memory (bytes, by what uses it) over time (s); the name of the file says its format."""
    # Nothing else needs it, and it takes a second to import.
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 4), layout="constrained")
    axes = figure.subplots()
    for name in dict.fromkeys(name for _, sizes in memory for name in sizes):
        axes.plot([at for at, _ in memory], [sizes.get(name, 0) / 1e6 for _, sizes in memory], label=name)
    axes.legend()
    axes.set(xlabel="s", ylabel="MB", title="memory during the campaign", ylim=(0, None))
    axes.grid(alpha=0.3)
    figure.savefig(path)
    return path
