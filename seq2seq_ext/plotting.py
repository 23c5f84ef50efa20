"""Pictures of what a model attended to."""

import os
import warnings
from collections.abc import Sequence
from types import ModuleType

from torch import Tensor

from seq2seq_ext.files import atomic_write


def require_matplotlib() -> ModuleType:
    """Matplotlib's figure module, which draws without a display.

    Raises:
        ImportError: matplotlib isn't installed.
    """
    try:
        import matplotlib.figure
    except ImportError:
        raise ImportError(
            "plots need matplotlib; install it with: pip install 'seq2seq_ext[plot]'"
        ) from None
    return matplotlib.figure


def plot_alignment(
    path: str | os.PathLike[str],
    attention: Tensor,
    source: Sequence[str],
    target: Sequence[str],
    *,
    title: str | None = None,
) -> None:
    """Draws attention weights as a heatmap: a row for each target token, columns for the source.

    Args:
        path: the PNG file to write, atomically.
        attention: weights ``[T, S]``; what is past the tokens (padding) is left out.
        source: S tokens.
        target: T tokens.
        title: written above.

    Raises:
        ValueError: fewer weights than tokens, or no token.
        ImportError: matplotlib isn't installed.
        OSError: the file can't be written.
    """
    figure_module = require_matplotlib()
    rows, columns = len(target), len(source)
    if not rows or not columns:
        raise ValueError("plot_alignment: source, target: expected at least one token in each")
    if attention.dim() != 2 or attention.size(0) < rows or attention.size(1) < columns:
        raise ValueError(
            f"plot_alignment: attention: expected [T, S] with T >= {rows} and S >= {columns}, "
            f"got shape {list(attention.shape)}"
        )
    weights = attention[:rows, :columns].detach().float().cpu().numpy()
    figure = figure_module.Figure(
        figsize=(min(1.5 + 0.35 * columns, 60), min(1.2 + 0.35 * rows, 60)), layout="constrained"
    )
    axes = figure.add_subplot()
    image = axes.imshow(weights, cmap="Blues", vmin=0.0, vmax=1.0, aspect="auto")
    # Tokens are text, never mathematics: a dollar sign stays one.
    axes.set_xticks(range(columns), source, parse_math=False)
    axes.set_yticks(range(rows), target, parse_math=False)
    axes.xaxis.tick_top()
    figure.colorbar(image, label="attention")
    if title is not None:
        axes.set_title(title, parse_math=False)
    with atomic_write(path, "wb") as file, warnings.catch_warnings():
        # A script that the font lacks becomes boxes; the weights are still worth a picture.
        warnings.filterwarnings("ignore", message="Glyph .* missing")
        figure.savefig(file, format="png", dpi=150)
