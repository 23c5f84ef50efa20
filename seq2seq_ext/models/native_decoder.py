"""Decoding in C++: the decoder's steps and the search without Python in between."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from seq2seq_ext import _C, ops
from seq2seq_ext.decoding import BeamSearch, BeamSearchOptions
from seq2seq_ext.decoding.native_options import Options
from seq2seq_ext.decoding.step import Step
from seq2seq_ext.models import check
from seq2seq_ext.models.attentional_decoder import AttentionalDecoder, Memory, State
from seq2seq_ext.models.generation import GenerationResult, generate, search_step
from seq2seq_ext.models.native_encoder import pack_encoder
from seq2seq_ext.models.recurrent import pack_layer
from seq2seq_ext.ops.encoder_inference import encoder_inference
from seq2seq_ext.ops.weight_types import WEIGHT_TYPES, check_weight_type


class Decoder:
    """A model made ready to decode: its weights packed in one type, its loop in C++.

    Embedding, cells, attention, fused projection and top-k, selection and reordering run without
    Python and without the GIL, so threads may share a Decoder; Ctrl-C stops the encoder's layers
    and the search within a step or 50 ms, whichever is longer. A sentence's result is bit for bit
    the same alone, in any batch and with any number of threads.

    Args:
        model: a Seq2Seq, float32, on the CPU. Its weights are copied: later changes don't show.
        dtype: how the weights are stored: ``"float32"``, ``"bfloat16"`` or ``"int8"`` (a scale
            for each column; activations quantised row by row). Sums, states and scores are
            float32 in all of them.

    Raises:
        ValueError, TypeError: a wrong argument, named in the message.

    Example:
        >>> import torch
        >>> from seq2seq_ext import BeamSearchOptions, Decoder, Seq2Seq, Seq2SeqConfig
        >>> model = Seq2Seq(Seq2SeqConfig(source_vocabulary_size=10, target_vocabulary_size=12))
        >>> decoder = Decoder(model, dtype="float32")
        >>> options = BeamSearchOptions(beam_size=3, bos_id=2, eos_id=3, pad_id=0, max_length=5)
        >>> src, src_lengths = torch.randint(4, 10, (2, 7)), torch.tensor([7, 4])
        >>> decoder.generate(src, src_lengths, options).tokens.shape[:2]
        torch.Size([2, 1])
    """

    def __init__(self, model: Any, dtype: str = "float32") -> None:
        where = "Decoder"
        if not isinstance(getattr(model, "decoder", None), AttentionalDecoder):
            raise TypeError(f"{where}: model: expected a Seq2Seq, got {type(model).__name__}")
        check_weight_type(where, dtype)
        check_on_cpu(where, model)
        self.dtype = dtype
        self.config = model.config
        with torch.no_grad():
            self._encoder = pack_encoder(model, WEIGHT_TYPES[dtype])
            self._native = _native_decoder(model.decoder, dtype)

    def encode(self, src: Tensor, src_lengths: Tensor) -> Memory:
        """As :meth:`seq2seq_ext.models.Seq2Seq.encode`."""
        check.source("Decoder.encode", self.config, torch.float32, src, src_lengths)
        return self._memory(src_lengths, *encoder_inference(self._encoder, src, src_lengths))

    def generate(self, src: Tensor, src_lengths: Tensor, options: Options) -> GenerationResult:
        """As :meth:`seq2seq_ext.models.Seq2Seq.generate`.

        Options for which Python must see each step (``logits_hook``, ``on_step``,
        ``normalized``) take :meth:`step` in a Python loop.
        """
        where = "Decoder.generate"
        check.source(where, self.config, torch.float32, src, src_lengths)
        told = check.search_options(where, self.config, src.size(0), options)
        encoded = encoder_inference(self._encoder, src, src_lengths)
        search = self._search(told, src_lengths)
        if search.needs_python:
            return generate(self, self._memory(src_lengths, *encoded), told, self._attends)
        return self._run(search, src_lengths, *encoded)

    def search_step(self, src: Tensor, src_lengths: Tensor, options: Options) -> tuple[Step, State]:
        """As :meth:`seq2seq_ext.models.Seq2Seq.search_step`."""
        where = "Decoder.search_step"
        told = check.search_options(where, self.config, src.size(0), options)
        return search_step(self, self.encode(src, src_lengths), told)

    def _search(self, options: Sequence[BeamSearchOptions], lengths: Tensor) -> BeamSearch:
        search = BeamSearch(len(options), options, lengths)
        vocabulary = self.config.target_vocabulary_size
        if search.largest_token >= vocabulary:
            raise ValueError(
                f"Decoder.generate: options: expected tokens below the target vocabulary's "
                f"{vocabulary}, got {search.largest_token}"
            )
        return search

    def _run(
        self, search: BeamSearch, lengths: Tensor, memory: Tensor, keys: Tensor, state: Tensor
    ) -> GenerationResult:
        """The search from its begin to its end, without Python."""
        attention = self._native.generate(
            search._engine,
            memory=memory.numpy(),
            keys=keys.numpy() if self._attends else None,
            lengths=lengths.numpy(),
            state=state.numpy(),
            threads=torch.ops.seq2seq_ext.max_threads(),
        )
        return search.result(None if attention is None else torch.from_numpy(attention))

    def _memory(self, lengths: Tensor, memory: Tensor, keys: Tensor, state: Tensor) -> Memory:
        return Memory(memory, keys if self._attends else None, lengths, self._state(state))

    @property
    def _attends(self) -> bool:
        return bool(self.config.attention != "none")

    def step(
        self, tokens: Tensor, state: State, memory: Memory
    ) -> tuple[Tensor, State, Tensor | None]:
        """One step, as :meth:`seq2seq_ext.models.Seq2Seq.step`."""
        check.step("Decoder.step", self.config, tokens, state, memory)
        logits, after, weights = self._native.step(
            tokens.numpy(),
            _state_array(state),
            threads=torch.ops.seq2seq_ext.max_threads(),
            **_source_arrays(memory),
        )
        return (
            torch.from_numpy(logits),
            self._state(torch.from_numpy(after)),
            None if weights is None else torch.from_numpy(weights),
        )

    def _state(self, parts: Tensor) -> State:
        layers = self.config.decoder_layers
        h, rest = parts[:layers], parts[layers:]
        cells = rest[:layers] if self.config.cell == "lstm" else None
        state: State = {
            "layers": tuple(zip(h, cells, strict=True)) if cells is not None else tuple(zip(h))
        }
        if self.config.input_feeding:
            state["attentional"] = parts[-1]
        return state


def _native_decoder(decoder: AttentionalDecoder, dtype: str) -> _C.Decoder:
    config, stored = decoder.config, WEIGHT_TYPES[dtype]
    attention: Any = decoder.attention
    additive = config.attention == "additive"
    layers = [
        (_bytes(pack_layer(config.cell, weights, stored)), weights[0].size(1), config.hidden_size)
        for weights in decoder.layers.all_weights
    ]
    projection = decoder.projection
    return _C.Decoder(
        weight_type=dtype,
        cell=config.cell,
        attention=config.attention if config.attention in ("none", "additive") else "dot",
        input_feeding=config.input_feeding,
        scale=1.0 if attention is None or additive else attention.scale,
        embedding=decoder.embedding.weight.detach().clone().numpy(),
        layers=layers,
        query=_linear(attention.query_projection.weight, None, stored) if additive else None,
        v=attention.v.detach().clone().numpy() if additive else None,
        combine=_linear(decoder.combine.weight, None, stored),
        projection=None if projection is None else _linear(projection.weight, None, stored),
        output=_linear(*decoder.output_layer(), stored),
    )


def _bytes(packed: Tensor) -> np.ndarray[Any, Any]:
    array: np.ndarray[Any, Any] = packed.flatten().view(torch.uint8).numpy()
    return array


def _linear(weight: Tensor, bias: Tensor | None, dtype: torch.dtype) -> tuple[Any, int, int, Any]:
    packed = ops.linear_pack(weight.detach(), dtype=dtype)
    outputs, inputs = weight.shape
    return _bytes(packed), inputs, outputs, None if bias is None else bias.detach().clone().numpy()


def _state_array(state: State) -> np.ndarray[Any, Any]:
    """``[parts, N, H]``: h of every layer, c of every layer, the attentional vector."""
    parts = [part for kind in zip(*state["layers"], strict=True) for part in kind]
    if "attentional" in state:
        parts.append(state["attentional"])
    array: np.ndarray[Any, Any] = torch.stack(parts).detach().numpy()
    return array


def _source_arrays(memory: Memory) -> dict[str, Any]:
    return {
        "memory": memory.memory.detach().numpy(),
        "keys": None if memory.projected is None else memory.projected.detach().numpy(),
        "lengths": memory.lengths.numpy(),
    }


def check_on_cpu(where: str, model: torch.nn.Module) -> None:
    for name, parameter in model.named_parameters():
        if parameter.dtype != torch.float32 or parameter.device.type != "cpu":
            raise ValueError(
                f"{where}: model: expected float32 parameters on the CPU, got {parameter.dtype} "
                f"on {parameter.device} ({name})"
            )
