"""What decoding with a :class:`Seq2Seq`, and training it, can't do without."""

from dataclasses import dataclass

from torch import Tensor, nn

from benchmarks.floors import BYTES_OF, Need, memory_of
from seq2seq_ext.models import Seq2Seq


def _weights(*modules: nn.Module) -> int:
    """Values of the matrices, each of which meets every row once."""
    return sum(p.numel() for module in modules for p in module.parameters() if p.dim() == 2)


def _step_weights(model: Seq2Seq) -> int:
    """Of the matrices that meet each target token but for the output layer's."""
    decoder = model.decoder
    return _weights(decoder.layers, decoder.attention.query_projection, decoder.combine)


def _attention(model: Seq2Seq) -> int:
    """Multiplications for each target and source token: scores and context."""
    return sum(model.decoder.attention.memory_projection.weight.shape)


def _source(model: Seq2Seq) -> int:
    """The values that meet each source token."""
    return _weights(model.encoder.layers, model.decoder.attention.memory_projection)


@dataclass(frozen=True)
class Decoding:
    """A search's work: ``rows`` hypotheses in ``steps`` steps, all batches together.

    Attributes:
        pairs: of a hypothesis at a step and a source token.
    """

    source_tokens: int
    rows: int
    steps: int
    pairs: int

    @classmethod
    def of(cls, batches: list[list[tuple[int, int]]], beams: int) -> "Decoding":
        """From the source tokens and the steps of each sentence. A sentence has one hypothesis at
        first, ``beams`` then."""
        rows = [(source, 1 + beams * (steps - 1)) for batch in batches for source, steps in batch]
        return cls(
            source_tokens=sum(source for source, _ in rows),
            rows=sum(count for _, count in rows),
            steps=sum(max(steps for _, steps in batch) for batch in batches),
            pairs=sum(source * count for source, count in rows),
        )

    def needs(self, model: Seq2Seq, dtype: str) -> list[Need]:
        """Without the exact functions (tanh, exp), the encoder's steps and the search itself."""
        step = _step_weights(model) + _weights(model.decoder.output)
        size = step * BYTES_OF[dtype]
        return [
            Need(2.0 * self.source_tokens * _source(model), dtype),
            Need(2.0 * self.rows * step, dtype, self.steps * size, memory_of(size)),
            Need(2.0 * self.pairs * _attention(model)),
        ]


def training(
    model: Seq2Seq, source_lengths: Tensor, target_lengths: Tensor, dtype: str = "float32"
) -> list[Need]:
    """Forward, and the gradients of weights and inputs: three products for each matrix, of
    ``dtype``, and for what attends, of float32. Targets have BOS and EOS.
    """
    source, target = int(source_lengths.sum()), int((target_lengths - 1).sum())
    pairs = int((source_lengths * (target_lengths - 1)).sum())
    each_target = _step_weights(model) + _weights(model.decoder.output)
    return [
        Need(6.0 * (source * _source(model) + target * each_target), dtype),
        Need(6.0 * pairs * _attention(model)),
    ]
