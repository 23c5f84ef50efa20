"""Checks of what users pass to a model. Messages: "<where>: <argument>: expected ..., got ...".

While a trace or a CUDA graph is made, those of values are left out.
"""

import torch
from torch import Tensor

from seq2seq_ext.decoding import BeamSearchOptions
from seq2seq_ext.decoding.native_options import Options, options_of_sentences
from seq2seq_ext.models.attentional_decoder import Memory, State
from seq2seq_ext.models.config import Seq2SeqConfig
from seq2seq_ext.ops import tracing


def instance(where: str, name: str, value: object, kind: type) -> None:
    if not isinstance(value, kind):
        raise TypeError(f"{where}: {name}: expected a {kind.__name__}, got {type(value).__name__}")


def plain(where: str, name: str, value: object) -> None:
    """A strided tensor that holds values."""
    instance(where, name, value, Tensor)
    assert isinstance(value, Tensor)
    if value.is_nested or value.layout != torch.strided or value.is_meta:
        got = "a nested one" if value.is_nested else f"{value.layout} on {value.device}"
        raise ValueError(f"{where}: {name}: expected a strided tensor with values, got {got}")


def ids(where: str, name: str, value: Tensor, layout: str, vocabulary_size: int) -> None:
    """int64 token ids, laid out like ``"[B, T]"``."""
    plain(where, name, value)
    if value.dtype != torch.int64:
        raise TypeError(f"{where}: {name}: expected int64 token ids, got {value.dtype}")
    if value.dim() != layout.count(",") + 1:
        raise ValueError(f"{where}: {name}: expected {layout}, got shape {list(value.shape)}")
    if not _has_values(value):
        return
    low, high = (int(v) for v in value.aminmax())
    if low < 0 or high >= vocabulary_size:
        raise ValueError(
            f"{where}: {name}: expected token ids in [0, {vocabulary_size}), got "
            f"{low if low < 0 else high}"
        )


def _has_values(value: Tensor) -> bool:
    """That can be read now."""
    is_readable = not torch.compiler.is_compiling() and not tracing.is_captured(value)
    return is_readable and value.numel() > 0


def features(where: str, name: str, value: Tensor, size: int, dtype: torch.dtype) -> None:
    """Float features ``[B, S, size]``."""
    plain(where, name, value)
    if value.dtype != dtype:
        raise TypeError(f"{where}: {name}: expected {dtype} features, got {value.dtype}")
    if value.dim() != 3 or value.size(2) != size:
        raise ValueError(
            f"{where}: {name}: expected [B, S, {size}] features, got shape {list(value.shape)}"
        )


def source(
    where: str, config: Seq2SeqConfig, dtype: torch.dtype, src: Tensor, src_lengths: Tensor
) -> None:
    """A batch of sources of a model with parameters of ``dtype``."""
    if config.source_vocabulary_size is not None:
        ids(where, "src", src, "[B, S]", config.source_vocabulary_size)
    elif config.source_feature_size is not None:
        features(where, "src", src, config.source_feature_size, dtype)
    rows(where, "src", src)
    lengths(where, "src_lengths", src_lengths, src.size(0), 0, src.size(1))


def search_options(
    where: str, config: Seq2SeqConfig, sources: int, options: Options
) -> list[BeamSearchOptions]:
    """One for each source, that a model of this config can follow."""
    told = options_of_sentences(where, sources, options)
    for each in {id(one): one for one in told}.values():
        _output_ids(where, each, config.target_vocabulary_size)
        if each.coverage_penalty != "none" and config.attention == "none":
            raise ValueError(
                f"{where}: coverage_penalty: expected 'none' for a model without attention, got "
                f"{each.coverage_penalty!r}"
            )
    return told


def _output_ids(where: str, options: BeamSearchOptions, vocabulary_size: int) -> None:
    for name, ids in (("bos_id", (options.bos_id,)), ("eos_id", options.eos_ids)):
        if max(ids) >= vocabulary_size:
            raise ValueError(
                f"{where}: options: expected {name} below the target vocabulary's "
                f"{vocabulary_size}, got {getattr(options, name)}"
            )


def lengths(where: str, name: str, value: Tensor, rows: int, low: int, high: int) -> None:
    """int64 ``[rows]`` in [low, high]."""
    plain(where, name, value)
    if value.dtype != torch.int64:
        raise TypeError(f"{where}: {name}: expected int64, got {value.dtype}")
    if value.shape != (rows,):
        raise ValueError(f"{where}: {name}: expected shape [{rows}], got {list(value.shape)}")
    if not _has_values(value):
        return
    least, most = (int(v) for v in value.aminmax())
    if least < low or most > high:
        raise ValueError(
            f"{where}: {name}: expected values in [{low}, {high}], got "
            f"{least if least < low else most}"
        )


def rows(where: str, name: str, value: Tensor, expected: int | None = None) -> None:
    if value.size(0) == 0:
        raise ValueError(f"{where}: {name}: expected at least 1 row, got 0")
    if expected is not None and value.size(0) != expected:
        raise ValueError(f"{where}: {name}: expected {expected} rows like src, got {value.size(0)}")


def step(where: str, config: Seq2SeqConfig, tokens: Tensor, value: State, memory: Memory) -> None:
    """The arguments of one decoder step."""
    ids(where, "tokens", tokens, "[N]", config.target_vocabulary_size)
    instance(where, "memory", memory, Memory)
    sources = memory.lengths.size(0)
    if tokens.size(0) == 0 or tokens.size(0) % sources:
        raise ValueError(
            f"{where}: tokens: expected a multiple of {sources} rows like memory, got "
            f"{tokens.size(0)}"
        )
    state(where, config, value, tokens.size(0), memory.memory.dtype)


def state(where: str, config: Seq2SeqConfig, value: State, rows: int, dtype: torch.dtype) -> None:
    """A decoder's state of ``rows`` rows."""
    instance(where, "state", value, dict)
    expected = ["layers", "attentional"] if config.input_feeding else ["layers"]
    if sorted(value) != sorted(expected):
        raise ValueError(f"{where}: state: expected keys {expected}, got {sorted(value)}")
    parts = 2 if config.cell == "lstm" else 1
    layers = value["layers"]
    nested = isinstance(layers, (tuple, list)) and all(
        isinstance(layer, (tuple, list)) for layer in layers
    )
    counts = [len(layer) for layer in layers] if nested else type(layers).__name__
    if counts != [parts] * config.decoder_layers:
        raise ValueError(
            f"{where}: state: expected {config.decoder_layers} layers of {parts} tensors, got "
            f"{counts}"
        )
    shape = [rows, config.hidden_size]
    fed = [value["attentional"]] if config.input_feeding else []
    for part in [*fed, *(part for layer in layers for part in layer)]:
        plain(where, "state", part)
        if part.dtype != dtype:
            raise TypeError(f"{where}: state: expected {dtype} tensors, got {part.dtype}")
        if list(part.shape) != shape:
            raise ValueError(
                f"{where}: state: expected tensors of shape {shape}, got {list(part.shape)}"
            )


def fraction(where: str, name: str, value: float) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{where}: {name}: expected a number, got {type(value).__name__}")
    if not 0 <= value <= 1:
        raise ValueError(f"{where}: {name}: expected a number in [0, 1], got {value}")
