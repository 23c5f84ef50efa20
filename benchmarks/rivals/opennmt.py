"""OpenNMT-py: its decoders and beam search with our weights.

Its memory is as wide as its state, its MLP attention has no tanh behind the combination, and
its decoder starts from the encoder's states as they are. Ours is wider, has one, and a bridge:
so attention and start are rewritten below after its own.
"""

from typing import Any

# Before onmt: it stands in for packages that onmt imports.
from benchmarks.rivals.opennmt_search import VERSION, BeamSearch, make_search

# isort: split
import torch
from onmt.decoders.decoder import InputFeedRNNDecoder, StdRNNDecoder
from onmt.modules import Embeddings, GlobalAttention
from onmt.utils.misc import sequence_mask
from torch import Tensor, nn

from benchmarks.rivals.eager import EagerSeq2Seq
from seq2seq_ext.decoding import BeamSearchOptions
from seq2seq_ext.models import Seq2Seq

NAME = f"OpenNMT-py {VERSION}"


class _Attention(GlobalAttention):
    """Scores as OpenNMT-py's, over a memory of any width."""

    def forward(
        self, src: Tensor, enc_out: Tensor, src_len: Any = None, coverage: Any = None
    ) -> tuple[Tensor, Tensor]:
        one_step = src.dim() == 2
        query = src.unsqueeze(1) if one_step else src
        align = self.score(query, enc_out)
        padding = sequence_mask(src_len, max_len=align.size(-1)).unsqueeze(1)
        align.masked_fill_(padding, -torch.inf)
        weights = align.softmax(-1)
        context = torch.bmm(weights, enc_out)
        combined = torch.tanh(self.linear_out(torch.cat((context, query), 2)))
        return (combined.squeeze(1), weights.squeeze(1)) if one_step else (combined, weights)


def _embeddings(embedding: nn.Embedding, pad_id: int) -> Embeddings:
    embeddings = Embeddings(embedding.embedding_dim, embedding.num_embeddings, pad_id)
    embeddings.word_lut.weight = embedding.weight
    return embeddings


def decoder_of(model: Seq2Seq) -> InputFeedRNNDecoder | StdRNNDecoder:
    """OpenNMT-py's decoder with the weights of ours."""
    config, ours = model.config, model.decoder
    kind = InputFeedRNNDecoder if config.input_feeding else StdRNNDecoder
    decoder = kind(
        "LSTM",
        True,
        config.decoder_layers,
        config.hidden_size,
        attn_type="mlp",
        dropout=config.dropout,
        embeddings=_embeddings(ours.embedding, config.pad_id),
    )
    weights = ours.layers.state_dict()
    if config.input_feeding:
        for layer, cell in enumerate(decoder.rnn.layers):
            cell.load_state_dict({name: weights[f"{name}_l{layer}"] for name in cell.state_dict()})
    else:
        decoder.rnn.load_state_dict(weights)
    attention = _Attention(config.hidden_size, attn_type="mlp")
    attention.linear_context = ours.attention.memory_projection
    attention.linear_query = ours.attention.query_projection
    attention.v.weight = nn.Parameter(ours.attention.v[None].detach().clone())
    attention.linear_out = ours.combine
    decoder.attn = attention
    return decoder


def start(decoder: InputFeedRNNDecoder | StdRNNDecoder, state: Any) -> None:
    """From a bridged state of the eager model."""
    layers = (part.transpose(0, 1).contiguous() for part in (state.hidden, state.cell))
    decoder.state = {"hidden": tuple(layers), "input_feed": state.fed[None], "coverage": None}


class Decoder:
    """Best hypotheses of a batch; options as far as this system has them."""

    def __init__(self, model: Seq2Seq, options: BeamSearchOptions) -> None:
        self.options, self.unk_id = options, model.config.unk_id
        self.encoder = EagerSeq2Seq(model)
        self.decoder = decoder_of(model).to(model.decoder.output.weight).eval()
        self.generator = nn.Sequential(model.decoder.output, nn.LogSoftmax(-1))

    @torch.inference_mode()
    def __call__(self, src: Tensor, lengths: Tensor) -> list[list[int]]:
        search, decoder = self._search(src.size(0)), self.decoder
        source, state = self.encoder.encode(src, lengths)
        start(decoder, state)
        repeat, memory, _ = search.initialize(source.memory, lengths)
        decoder.map_state(repeat)
        for step in range(self.options.max_length):
            tokens = search.current_predictions.view(-1, 1, 1)
            output, attention = decoder(tokens, memory, src_len=search.src_len, step=step)
            search.advance(self.generator(output.squeeze(1)), attention["std"])
            finished = any(any(each) for each in search.is_finished_list)
            if finished:
                search.update_finished()
                if search.done:
                    break
            rows = search.select_indices
            if finished:
                memory = memory[rows]
            decoder.map_state(lambda part, _, rows=rows: part[rows])
        return [n_best[0].tolist() for n_best in search.predictions]

    def _search(self, batch: int) -> BeamSearch:
        options = self.options
        return make_search(
            batch,
            beam_size=options.beam_size,
            bos=options.bos_id,
            pad=options.pad_id,
            eos=options.eos_id,
            unk=self.unk_id,
            max_length=options.max_length,
            min_length=max(options.min_length - 1, 0),
        )


class Training:
    """Loss and gradients of a batch, by OpenNMT-py's decoder; its encoder is a packed nn.LSTM."""

    def __init__(self, model: Seq2Seq) -> None:
        self.encoder = EagerSeq2Seq(model)
        self.decoder = decoder_of(model)
        self.generator = model.decoder.output
        self.loss = nn.CrossEntropyLoss(ignore_index=model.config.pad_id)

    def __call__(self, src: Tensor, src_lengths: Tensor, tgt: Tensor) -> Tensor:
        for module in (self.encoder, self.decoder):
            module.zero_grad()
        source, state = self.encoder.encode(src, src_lengths)
        start(self.decoder, state)
        output, _ = self.decoder(tgt[:, :-1, None], source.memory, src_len=src_lengths)
        loss = self.loss(self.generator(output.flatten(0, 1)), tgt[:, 1:].flatten())
        loss.backward()
        return loss.detach()
