"""Images as sequences of rows: stacked LSTMs classify the 8x8 digits of scikit-learn.

    python examples/rows.py                       # the layers of seq2seq_ext
    python examples/rows.py --backend torch       # the very same with torch.nn's

Both print the same accuracy, and the same losses up to the last digits of float32.
"""

import argparse
import time
from types import ModuleType

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

import seq2seq_ext

BACKENDS: dict[str, ModuleType] = {"seq2seq_ext": seq2seq_ext.nn, "torch": torch.nn}


class RowClassifier(nn.Module):
    """Reads an image row by row: ``[B, rows, columns]`` to logits ``[B, classes]``."""

    def __init__(self, layers: ModuleType, columns: int = 8, hidden: int = 128, classes: int = 10):
        super().__init__()
        self.first = layers.LSTM(columns, hidden, bidirectional=True, batch_first=True)
        self.second = layers.LSTM(2 * hidden, hidden, batch_first=True)
        self.third = layers.LSTM(hidden, hidden, batch_first=True)
        self.classify = nn.Linear(hidden, classes)

    def forward(self, images: Tensor) -> Tensor:
        rows, _ = self.first(images)
        rows, _ = self.second(rows)
        _, (last, _) = self.third(rows)
        logits: Tensor = self.classify(last[-1])
        return logits


def load_images(test_share: float = 0.2) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Training images and labels, test images and labels, in an order that is always the same."""
    digits = load_digits()
    images = torch.tensor(digits.images, dtype=torch.float32) / 16
    labels = torch.tensor(digits.target, dtype=torch.int64)
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    count = int(test_share * len(order))
    test, training = order[:count], order[count:]
    return images[training], labels[training], images[test], labels[test]


def train(
    backend: str, epochs: int, batch_size: int = 64, seed: int = 0
) -> tuple[list[float], float]:
    """Trains a classifier; returns the loss of each step and the test accuracy."""
    images, labels, test_images, test_labels = load_images()
    torch.manual_seed(seed)
    model = RowClassifier(BACKENDS[backend])
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    losses: list[float] = []
    for epoch in range(1, epochs + 1):
        for batch in torch.split(torch.randperm(len(labels)), batch_size):
            loss = nn.functional.cross_entropy(model(images[batch]), labels[batch])
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            losses.append(loss.item())
        with torch.no_grad():
            accuracy = (model(test_images).argmax(dim=1) == test_labels).double().mean().item()
        print(f"epoch {epoch}: loss {losses[-1]:.6f}, test accuracy {accuracy:.2%}", flush=True)
    return losses, accuracy


def main() -> None:
    parser = argparse.ArgumentParser(description="Classify digits row by row.")
    parser.add_argument("--backend", choices=BACKENDS, default="seq2seq_ext")
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    started = time.perf_counter()
    losses, accuracy = train(options.backend, options.epochs, seed=options.seed)
    print("loss of the first steps:", " ".join(f"{loss:.6f}" for loss in losses[:8]))
    seconds = time.perf_counter() - started
    print(f"{options.backend}: test accuracy {accuracy:.2%} after {seconds:.1f} s")


if __name__ == "__main__":
    main()
