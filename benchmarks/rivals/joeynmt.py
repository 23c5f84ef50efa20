"""JoeyNMT: its decoder, attention and beam search with our weights.

Its decoder starts from tanh(W h) in every layer; ours has a matrix for each layer, and for the
cells another: so the encoder hands on h and c, and the start is ours.
"""

from importlib.metadata import version
from typing import Any

import torch
from joeynmt.decoders import RecurrentDecoder
from joeynmt.encoders import RecurrentEncoder
from joeynmt.search import beam_search
from torch import Tensor, nn

from benchmarks.rivals.eager import EagerSeq2Seq
from seq2seq_ext.decoding import BeamSearchOptions
from seq2seq_ext.models import Seq2Seq

NAME = f"JoeyNMT {version('joeynmt')}"


class _Decoder(RecurrentDecoder):
    """As JoeyNMT's, but for its start."""

    def _init_hidden(self, encoder_final: Any = None) -> tuple[Tensor, Tensor]:
        hidden, cell = (part.transpose(0, 1).contiguous() for part in encoder_final)
        return hidden, cell


class _Model:
    """What the search asks of a joeynmt.model.Model."""

    def __init__(self, decoder: _Decoder, embedding: nn.Embedding, **indices: int) -> None:
        self.decoder = decoder
        self.embedding = embedding
        self.bos_index, self.eos_index = indices["bos"], indices["eos"]
        self.pad_index, self.unk_index = indices["pad"], indices["unk"]
        self.sep_index = None
        self.specials: list[int] = []
        self.lang_tags: list[int] = []

    def __call__(self, *, trg_input: Tensor, encoder_hidden: Any, **arguments: Any) -> Any:
        return self.decoder(
            trg_embed=self.embedding(trg_input),
            encoder_output=arguments["encoder_output"],
            encoder_hidden=None,
            src_mask=arguments["src_mask"],
            unroll_steps=1,
            hidden=arguments["decoder_hidden"],
            prev_att_vector=arguments["att_vector"],
        )


def _decoder(model: Seq2Seq) -> _Decoder:
    config, ours = model.config, model.decoder
    size, embedding = config.hidden_size, config.embedding_size
    decoder = _Decoder(
        rnn_type="lstm",
        emb_size=embedding,
        hidden_size=size,
        encoder=RecurrentEncoder("lstm", size, embedding),
        attention="bahdanau",
        num_layers=config.decoder_layers,
        vocab_size=config.target_vocabulary_size,
        input_feeding=config.input_feeding,
    )
    decoder.rnn.load_state_dict(ours.layers.state_dict())
    decoder.output_layer = ours.output
    attention = decoder.attention
    attention.key_layer = ours.attention.memory_projection
    attention.query_layer = ours.attention.query_projection
    with torch.no_grad():
        attention.energy_layer.weight.copy_(ours.attention.v[None])
        # [query; context] there, [context; query] here.
        context, query = ours.combine.weight.split((config.memory_size, size), dim=1)
        decoder.att_vector_layer.weight.copy_(torch.cat((query, context), dim=1))
        decoder.att_vector_layer.bias.zero_()
    return decoder.to(ours.output.weight).eval()


class Decoder:
    """Best hypotheses of a batch; options as far as this system has them."""

    def __init__(self, model: Seq2Seq, options: BeamSearchOptions) -> None:
        self.options = options
        self.encoder = EagerSeq2Seq(model)
        self.model = _Model(
            _decoder(model),
            model.decoder.embedding,
            bos=options.bos_id,
            eos=options.eos_id,
            pad=options.pad_id,
            unk=model.config.unk_id,
        )

    @torch.inference_mode()
    def __call__(self, src: Tensor, lengths: Tensor) -> list[list[int]]:
        options = self.options
        source, state = self.encoder.encode(src, lengths)
        tokens, _, _ = beam_search(
            model=self.model,
            beam_size=options.beam_size,
            encoder_output=source.memory,
            encoder_hidden=(state.hidden, state.cell),
            src_mask=source.mask[:, None],
            max_output_length=options.max_length,
            alpha=-1,
            min_output_length=max(options.min_length - 1, 0),
        )
        return [[t for t in row if t != options.pad_id] for row in tokens.tolist()]
