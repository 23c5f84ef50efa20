"""The attentional encoder-decoder in plain PyTorch, from a config and a state_dict.

Dims: B batch, S source, T target, E embedding, H hidden, M memory, A attention, V vocabulary,
N = B*K rows of K beams for each source. ``config`` is any object with the fields of
:class:`seq2seq_ext.models.Seq2SeqConfig`; ``weights`` a Seq2Seq's state_dict.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from seq2seq_ext.reference.attention import additive_attention, dot_attention
from seq2seq_ext.reference.beam_search import beam_search
from seq2seq_ext.reference.gru import gru
from seq2seq_ext.reference.lstm import lstm
from seq2seq_ext.reference.rnn import rnn

Weights = Mapping[str, Tensor]
State = dict[str, Any]

_LAYERS: dict[str, Any] = {"lstm": lstm, "gru": gru, "rnn": rnn}


class Memory(NamedTuple):
    """As :class:`seq2seq_ext.models.Memory`."""

    memory: Tensor  # [B, S, M]
    projected: Tensor | None  # [B, S, A]
    lengths: Tensor  # [B]
    state: State


def encode(config: Any, weights: Weights, src: Tensor, src_lengths: Tensor) -> Memory:
    """Same results as :meth:`seq2seq_ext.models.Seq2Seq.encode`."""
    x = src if config.source_vocabulary_size is None else weights["encoder.embedding.weight"][src]
    x = x.transpose(0, 1)  # [S, B, E or F]
    states = 2 if config.cell == "lstm" else 1
    for layer in range(config.encoder_layers):
        zeros = [x.new_zeros(2, x.shape[1], config.hidden_size)] * states
        both = [
            weights[f"encoder.layers.{name}_l{layer}{direction}"]
            for direction in ("", "_reverse")
            for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        ]
        x, *finals = _LAYERS[config.cell](x, *zeros, both, lengths=src_lengths)
    memory = x.transpose(0, 1)  # [B, S, 2H]
    if "encoder.projection.weight" in weights:
        memory = memory @ weights["encoder.projection.weight"].t()

    initial = []
    for name, final in zip(("hidden", "cell"), finals, strict=False):
        w, b = weights[f"bridge.{name}.weight"], weights[f"bridge.{name}.bias"]
        both_directions = torch.cat((final[0], final[1]), dim=1)  # [B, 2H]
        bridged = torch.tanh(both_directions @ w.t() + b)
        initial.append(bridged.chunk(config.decoder_layers, dim=1))
    state: State = {"layers": tuple(zip(*initial, strict=True))}
    if config.input_feeding:
        state["attentional"] = torch.zeros_like(state["layers"][0][0])

    keys = None if config.attention == "none" else memory
    if "decoder.attention.memory_projection.weight" in weights:
        keys = memory @ weights["decoder.attention.memory_projection.weight"].t()
    return Memory(memory, keys, src_lengths, state)


def step(
    config: Any, weights: Weights, tokens: Tensor, state: State, memory: Memory
) -> tuple[Tensor, State, Tensor | None]:
    """Same results as :meth:`seq2seq_ext.models.Seq2Seq.step`."""
    x = weights["decoder.embedding.weight"][tokens]  # [N, E]
    if config.input_feeding:
        x = torch.cat((x, state["attentional"]), dim=1)
    layers = []
    for i, layer_state in enumerate(state["layers"]):
        names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        layer = [weights[f"decoder.layers.{name}_l{i}"] for name in names]
        output, *after = _LAYERS[config.cell](x[None], *(s[None] for s in layer_state), layer)
        x = output[0]
        layers.append(tuple(s[0] for s in after))

    alignment = None
    combined = x
    if config.attention != "none":
        query = x.view(memory.memory.shape[0], -1, x.shape[1])  # [B, K, H]
        context, alignment = _attend(config, weights, query, memory)
        combined = torch.cat((context.flatten(0, 1), x), dim=1)
        alignment = alignment.flatten(0, 1)
    vector = torch.tanh(combined @ weights["decoder.combine.weight"].t())

    new_state: State = {"layers": tuple(layers)}
    if config.input_feeding:
        new_state["attentional"] = vector
    if "decoder.projection.weight" in weights:
        vector = vector @ weights["decoder.projection.weight"].t()
    if config.tie_output:
        w, b = weights["decoder.embedding.weight"], weights["decoder.output_bias"]
    else:
        w, b = weights["decoder.output.weight"], weights["decoder.output.bias"]
    return vector @ w.t() + b, new_state, alignment


def forward(config: Any, weights: Weights, src: Tensor, src_lengths: Tensor, tgt: Tensor) -> Tensor:
    """Same logits ``[B, T, V]`` as :meth:`seq2seq_ext.models.Seq2Seq.forward`."""
    memory = encode(config, weights, src, src_lengths)
    state, logits = memory.state, []
    for tokens in tgt.unbind(1):
        scores, state, _ = step(config, weights, tokens, state, memory)
        logits.append(scores)
    return torch.stack(logits, dim=1)


@torch.no_grad()
def generate(
    config: Any, weights: Weights, src: Tensor, src_lengths: Tensor, options: Any
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Same tokens, lengths, scores and log_probs as :meth:`seq2seq_ext.models.Seq2Seq.generate`."""
    memory = encode(config, weights, src, src_lengths)

    def repeat(t: Tensor) -> Tensor:
        return t.repeat_interleave(options.beam_size, dim=0)

    state: State = {"layers": tuple(tuple(map(repeat, part)) for part in memory.state["layers"])}
    if config.input_feeding:
        state["attentional"] = repeat(memory.state["attentional"])
    found = beam_search(
        lambda tokens, state: step(config, weights, tokens, state, memory)[:2],
        state,
        batch_size=src.shape[0],
        options=options,
        source_lengths=src_lengths.tolist(),
        device=src.device,
    )
    return found.tokens, found.lengths, found.scores, found.log_probs


def _attend(config: Any, weights: Weights, query: Tensor, memory: Memory) -> tuple[Tensor, Tensor]:
    assert memory.projected is not None
    if config.attention == "additive":
        query = query @ weights["decoder.attention.query_projection.weight"].t()
        v = weights["decoder.attention.v"]
        return additive_attention(query, memory.projected, v, memory.memory, memory.lengths)
    scale = config.hidden_size**-0.5 if config.attention == "scaled_dot" else 1.0
    return dot_attention(query, memory.projected, memory.memory, memory.lengths, scale)
