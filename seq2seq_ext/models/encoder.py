"""From a source to its memory."""

import torch
from torch import Tensor
from torch.nn.functional import dropout

from seq2seq_ext import ops
from seq2seq_ext.models.config import Seq2SeqConfig
from seq2seq_ext.models.recurrent import LayerState, stack


class Encoder(torch.nn.Module):
    """Embedding (token ids) or nothing (features), then bidirectional layers."""

    def __init__(self, config: Seq2SeqConfig) -> None:
        super().__init__()
        self.dropout = config.dropout
        self.embedding: torch.nn.Embedding | None = None
        input_size = config.source_feature_size
        if config.source_vocabulary_size is not None:
            input_size = config.embedding_size
            self.embedding = torch.nn.Embedding(
                config.source_vocabulary_size, input_size, padding_idx=config.pad_id
            )
        assert input_size is not None  # the config has one of the two
        self.layers = stack(config, input_size, config.encoder_layers, bidirectional=True)
        # Plain dot products need keys of the query's size.
        both = 2 * config.hidden_size
        self.projection = (
            torch.nn.Linear(both, config.memory_size, bias=False)
            if config.memory_size != both
            else None
        )

    def forward(self, src: Tensor, lengths: Tensor) -> tuple[Tensor, LayerState]:
        """Encodes ``src [B, S]`` (ids) or ``[B, S, F]``.

        Returns:
            memory ``[B, S, M]`` and the top layer's final states, both directions side by
            side: ``(h,)`` or ``(h, c)``, each ``[B, 2H]``.
        """
        x = src if self.embedding is None else self.embedding(src)
        output, finals = self.layers(dropout(x, self.dropout, self.training), lengths=lengths)
        finals = finals if isinstance(finals, tuple) else (finals,)
        top = tuple(torch.cat((s[-2], s[-1]), dim=1) for s in finals)
        if self.projection is not None:
            output = ops.linear(output, self.projection.weight)
        return output, top
