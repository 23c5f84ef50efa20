"""Beam search of sentences that are told unlike: each runs where its own options let it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from seq2seq_ext.decoding.device_search import DeviceBeamSearch
from seq2seq_ext.decoding.engine import BeamSearch
from seq2seq_ext.decoding.options import BeamSearchOptions
from seq2seq_ext.decoding.progress import SearchProgress
from seq2seq_ext.decoding.result import BeamSearchResult

# What a result holds where there is no hypothesis and behind its end; tokens have their padding.
_NOTHING = {
    "lengths": 0,
    "scores": -torch.inf,
    "log_probs": -torch.inf,
    "token_log_probs": 0.0,
    "reasons": -1,
    "rows": 0,
}


def placed(
    host: BeamSearch, device: torch.device
) -> "BeamSearch | DeviceBeamSearch | MixedBeamSearch":
    """``host`` or another search of its sentences, for logits on this device.

    Each one's own options tell whether a GPU searches it, as its last bits depend on that.
    """
    parts = _parts(host.options, device)
    if len(parts) > 1:
        return MixedBeamSearch(host, device, parts)
    [(told, sentences)] = parts.items()
    return host if told is None else _on_device(host, sentences, device)


def _parts(
    options: Sequence[BeamSearchOptions], device: torch.device
) -> dict[BeamSearchOptions | None, list[int]]:
    """Sentences by the options, but for seeds, under which a GPU searches them; None: on the
    host."""
    stay = {
        id(each): DeviceBeamSearch.runs(device, [each])
        for each in {id(one): one for one in options}.values()
    }
    parts: dict[BeamSearchOptions | None, list[int]] = {}
    for sentence, each in enumerate(options):
        parts.setdefault(each.without_seed() if stay[id(each)] else None, []).append(sentence)
    return parts


class MixedBeamSearch:
    """:class:`BeamSearch` in parts: one on a GPU for each of its options, the rest on the host."""

    def __init__(
        self,
        host: BeamSearch,
        device: torch.device,
        parts: Mapping[BeamSearchOptions | None, Sequence[int]],
    ) -> None:
        self._options = options = host.options
        beams = [each.beam_size for each in options]
        padding = [each.pad_id for each in options for _ in range(each.beam_size)]
        self._padding = torch.tensor(padding, device=device)
        self._unmoved = torch.arange(len(padding), device=device)
        rows = torch.split(self._unmoved, beams)
        self._parts = [
            _Part(
                _on_host(host, sentences) if told is None else _on_device(host, sentences, device),
                torch.tensor(sentences, device="cpu"),
                torch.cat([rows[i] for i in sentences]),
            )
            for told, sentences in parts.items()
        ]

    @property
    def done(self) -> bool:
        """Whether every sentence is known to have stopped."""
        return all(part.done for part in self._parts)

    def check_vocabulary(self, where: str, vocabulary: int) -> None:
        """Every token that the options name is one of the V."""
        for part in self._parts:
            part.search.check_vocabulary(where, vocabulary)

    def advance(self, logits: Tensor, attention: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """As :meth:`BeamSearch.advance`."""
        tokens, parents = self._padding.clone(), self._unmoved.clone()
        for part in self._parts:
            if part.done:
                continue
            own = part.rows
            weights = None if attention is None else attention[own]
            chosen, places = part.search.advance(logits[own], weights)
            tokens[own], parents[own] = chosen.to(own.device), own[places.to(own.device)]
            part.done = part.search.done
        return tokens, parents

    def result(self) -> BeamSearchResult:
        """The ``n_best`` of every sentence."""
        found = [part.result() for part in self._parts]
        n_best = max(each.n_best for each in self._options)
        longest = max(each.tokens.shape[2] for each in found)
        shape = len(self._options), n_best, longest
        padding = torch.tensor([each.pad_id for each in self._options], device="cpu")
        merged = {"tokens": padding[:, None, None].repeat(1, n_best, longest)}
        for name, nothing in _NOTHING.items():
            like = getattr(found[0], name)
            merged[name] = like.new_full(shape[: like.dim()], nothing)
        for part, result in zip(self._parts, found, strict=True):
            for name, whole in merged.items():
                value = getattr(result, name)
                own: tuple[Tensor | slice, ...] = part.sentences, *map(slice, value.shape[1:])
                whole[own] = value
        return BeamSearchResult(**merged)


@dataclass
class _Part:
    """Sentences that are searched together, and which rows of all theirs are."""

    search: BeamSearch | DeviceBeamSearch
    sentences: Tensor
    rows: Tensor
    done: bool = False

    def result(self) -> BeamSearchResult:
        """With rows counted among all."""
        found = self.search.result()
        is_in = torch.arange(found.rows.shape[2], device="cpu") < found.lengths[..., None]
        return replace(found, rows=self.rows.cpu()[found.rows].where(is_in, 0))


def _on_device(
    whole: BeamSearch, sentences: Sequence[int], device: torch.device
) -> DeviceBeamSearch:
    told = [whole.options[i] for i in sentences]
    return DeviceBeamSearch(len(sentences), told, device, _lengths(whole, sentences))


def _lengths(whole: BeamSearch, sentences: Sequence[int]) -> list[int] | None:
    lengths = whole.source_lengths
    return None if lengths is None else [lengths[i] for i in sentences]


def _on_host(whole: BeamSearch, sentences: Sequence[int]) -> BeamSearch:
    """Some of its sentences."""
    told = [_numbered(whole.options[i], i) for i in sentences]
    return BeamSearch(len(sentences), told, _lengths(whole, sentences))


def _numbered(options: BeamSearchOptions, sentence: int) -> BeamSearchOptions:
    """``on_step`` is shown which of all sentences it is."""
    watch = options.on_step
    if watch is None:
        return options

    def show(progress: SearchProgress) -> object:
        return watch(replace(progress, sentence=sentence))

    return replace(options, on_step=show)
