"""Beam search whose state lies on a GPU: no step waits for it."""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import fields
from typing import NamedTuple, cast

import torch
from torch import Tensor

from seq2seq_ext.decoding.device_result import COUNTERS, ENDED, NODE, read_result
from seq2seq_ext.decoding.device_tables import (
    banned_sequences,
    by_length,
    group_beams,
    noise_places,
    pool_size,
    score_table,
)
from seq2seq_ext.decoding.native_options import options_of_sentences
from seq2seq_ext.decoding.options import BeamSearchOptions
from seq2seq_ext.decoding.result import BeamSearchResult
from seq2seq_ext.decoding.step import check_attention, check_vocabulary

# What the kernel knows of, whatever their values; of the others it knows the defaults.
_KNOWN = {
    "bos_id",
    "eos_id",
    "pad_id",
    "beam_size",
    "beam_groups",
    "diversity_penalty",
    "n_best",
    "max_length",
    "min_length",
    "length_penalty",
    "alpha",
    "word_reward",
    "length_offset",
    "count_eos",
    "coverage_penalty",
    "beta",
    "coverage_stepwise",
    "early_stopping",
    "patience",
    "eos_beyond_beam",
    "full_pool",
    "temperature",
    "repetition_penalty",
    "no_repeat_ngram_size",
    "banned",
    "prefix",
    "force_eos",
    "rules_see_bos",
    "top_k",
    "top_p",
    "sampling",
    "seed",
    "return_attention",
}
_STOPS = {"exact", "heuristic", "first", "none"}
_LONGEST_PATH = 4096  # that rules read; as in csrc/kernels/cuda/beam_search.h
_MOST_DRAWN_FROM = 4096  # tokens that top_k leaves to sampling; as there


class DeviceBeamSearch:
    """:class:`BeamSearch` on a GPU, for sentences that are all told the same but for their seeds.

    Finds the same, bit for bit, from the same candidates. Whether it is done is asked once in a
    few steps, and the answer looked at a few steps later; those taken in vain change nothing.

    Args:
        batch_size: sentences.
        options: of all sentences, or one for each; see :meth:`knows`.
        device: where logits come from.
        source_lengths: of each sentence; read where there is a coverage penalty.
    """

    steps_between_questions = 4

    @classmethod
    def runs(cls, device: torch.device, options: Sequence[BeamSearchOptions]) -> bool:
        """Whether a search of logits on this device runs here."""
        is_built = torch._C._dispatch_has_kernel_for_dispatch_key
        return (
            device.type == "cuda"
            and is_built("seq2seq_ext::beam_search_step", "CUDA")
            and cls.knows(options)
        )

    @staticmethod
    def knows(options: Sequence[BeamSearchOptions]) -> bool:
        """Whether a search that is told this can run here."""
        first = options[0]
        defaults = {field.name: field.default for field in fields(first)}
        others = (name for name in defaults if name not in _KNOWN)
        return (
            all(each is first or each.without_seed() == first.without_seed() for each in options)
            and first.early_stopping in _STOPS
            and (not _reads_paths(first) or first.max_length <= _LONGEST_PATH)
            and (first.sampling == "none" or first.top_k <= _MOST_DRAWN_FROM)
            and all(getattr(first, name) == defaults[name] for name in others)
        )

    def __init__(
        self,
        batch_size: int,
        options: BeamSearchOptions | Sequence[BeamSearchOptions],
        device: torch.device,
        source_lengths: Sequence[int] | Tensor | None = None,
    ) -> None:
        self.options = options_of_sentences("DeviceBeamSearch", batch_size, options)
        self._told = options = self.options[0]
        self.rows = batch_size * options.beam_size
        self.steps = 0
        groups = (batch_size, options.beam_groups)
        beams, length = group_beams(options), options.max_length

        def zeros(*shape: int) -> Tensor:
            return torch.zeros(shape, dtype=torch.int64, device=device)

        self._sums = torch.zeros(*groups, beams, dtype=torch.float64, device=device)
        self._counters = zeros(*groups, COUNTERS)
        self._counters[..., 1] = beams if options.sampling == "ancestral" else 1
        self._pool = zeros(*groups, pool_size(options), ENDED)
        self._nodes = zeros(length, self.rows, NODE)
        self._eos_ids = torch.tensor(options.eos_ids, device=device)
        self._banned = by_length(banned_sequences(options)).to(device)
        self._prefix = torch.tensor(options.prefix, dtype=torch.int64, device=device)
        self._scores = score_table(options).to(device)
        self._coverage: _Coverage | None = None
        if options.coverage_penalty != "none":
            assert source_lengths is not None  # who takes options has asked for them
            self._coverage = _Coverage(options, self.rows, source_lengths, device)
        self._keys: Tensor | None = None
        self._places: Tensor | None = None
        if options.sampling != "none":
            self._places = noise_places(self.options).to(device)
        if options.sampling == "gumbel":
            self._keys = torch.zeros_like(self._sums)
        self._asked: _Answer | None = None

    @property
    def done(self) -> bool:
        """Whether every sentence is known to have stopped."""
        if self.steps >= self._told.max_length:
            return True
        return self.steps % self.steps_between_questions == 0 and self.had_stopped()

    def had_stopped(self) -> bool:
        """Whether every sentence had stopped when this was asked the last time.

        So the device has the steps in between to take while the host waits for it.
        """
        before, self._asked = self._asked, _Answer(self._counters[..., 1].any())
        return before is not None and not before.wait()

    def check_vocabulary(self, where: str, vocabulary: int) -> None:
        """Every token that the options name is one of the V."""
        told = self._told
        named = [*told.eos_ids, *told.prefix, *itertools.chain(*banned_sequences(told))]
        named += [told.bos_id] * told.rules_see_bos
        check_vocabulary(where, vocabulary, self.options[:1], max(named))

    def advance(self, logits: Tensor, attention: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """As :meth:`BeamSearch.advance`, on the device of ``logits`` throughout."""
        if self._coverage is not None:
            self._coverage.check("BeamSearch.advance", attention)
        self.steps += 1
        return self.choose(self.candidates(logits), attention)

    def candidates(self, logits: Tensor) -> "Candidates":
        """Each row's best that the search may choose from."""
        wide = (logits if logits.dtype == torch.float64 else logits.float()).detach()
        told, rules, floors = self._told, self._rules(), None
        if told.top_p < 1:
            nucleus = torch.ops.seq2seq_ext.beam_search_nucleus
            floors = nucleus(wide, *rules, told.top_k, told.top_p)
        ruled = torch.ops.seq2seq_ext.log_softmax_topk.ruled
        return self._chosen(wide.shape[1], lambda *noise: ruled(wide, *rules, floors, *noise))

    def linear_candidates(
        self, vectors: Tensor, weight: Tensor, bias: Tensor | None
    ) -> "Candidates":
        """Those of ``linear(vectors, weight, bias)``, bit for bit, whose logits nobody sees but
        top_p, which looks at whole rows."""
        if self._told.top_p < 1:
            return self.candidates(torch.ops.seq2seq_ext.linear(vectors, weight, bias, None))
        rules, ruled = self._rules(), torch.ops.seq2seq_ext.linear_log_softmax_topk.ruled
        return self._chosen(
            weight.shape[0], lambda *noise: ruled(vectors, weight, bias, None, *rules, *noise)
        )

    def _chosen(
        self, vocabulary: int, topk: Callable[..., tuple[Tensor, Tensor, Tensor]]
    ) -> "Candidates":
        """What a top-k finds that is told noise and how many."""
        told = self._told
        most = min(told.top_k or vocabulary, vocabulary)
        width = min(self._width(), most)
        if self._places is None:
            return Candidates(*topk(None, width)[:2])
        if not told.top_k or told.top_p < 1:  # a nucleus is of the top_k already
            return Candidates(*topk(self._places, width))
        log_probs, tokens, _ = topk(None, most)
        draw = torch.ops.seq2seq_ext.beam_search_draw
        return Candidates(*draw(log_probs, tokens, self._places, width))

    def _width(self) -> int:
        """How many candidates of a row can matter."""
        told = self._told
        return 1 if told.sampling == "ancestral" else told.beam_size + len(told.eos_ids)

    def _rules(self) -> tuple[Tensor | None, Tensor | None, float, float]:
        """What each row may or may not say, what it has said, temperature and penalty, as
        csrc/kernels/cuda/topk.h has them."""
        told = self._told
        penalises = told.repetition_penalty != 1
        if not _reads_paths(told):
            return None, None, told.temperature, 1.0
        listed, seen = torch.ops.seq2seq_ext.beam_search_rules(
            self._sums,
            self._counters,
            self._nodes,
            self._eos_ids,
            told.min_length,
            told.no_repeat_ngram_size,
            told.bos_id if told.rules_see_bos else None,
            self._banned,
            self._prefix,
            told.force_eos,
            penalises,
        )
        return listed, seen if penalises else None, told.temperature, told.repetition_penalty

    def choose(
        self, offered: "Candidates", attention: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """One step from each row's best candidates: ``tokens [N]``, ``parents [N]``.

        All that it counts is counted on the device, so that a graph may replay it.
        """
        told, terms = self._told, None
        if self._coverage is not None and attention is not None:
            terms = self._coverage.grow(attention)
        tokens, parents = torch.ops.seq2seq_ext.beam_search_step(
            offered.log_probs,
            offered.tokens,
            self._sums,
            self._counters,
            self._pool,
            self._nodes,
            self._eos_ids,
            self._scores,
            terms,
            told.coverage_stepwise,
            told.min_length,
            # Samples go on until all have ended.
            "none" if told.sampling == "ancestral" else told.early_stopping,
            told.eos_beyond_beam,
            told.full_pool == "first",
            told.count_eos,
            # The shortest that counts as one token; with a reward there is none.
            told.max_length + 1 if told.word_reward else 1 - told.length_offset,
            told.pad_id,
            told.diversity_penalty,
            told.sampling,
            offered.perturbed,
            self._keys,
            self._places,
        )
        if self._coverage is not None:
            self._coverage.move(parents)
        return tokens, parents

    def result(self) -> BeamSearchResult:
        """The ``n_best`` of every sentence; waits for the device."""
        with torch.device("cpu"):  # whatever the caller's default is
            return read_result(
                self._told, self._counters.cpu(), self._pool.cpu(), self._nodes.cpu()
            )


class Candidates(NamedTuple):
    """Each row's best, best first: under sampling by ``perturbed``, log-probs plus noise."""

    log_probs: Tensor  # [N, W]
    tokens: Tensor  # [N, W]
    perturbed: Tensor | None = None  # [N, W]


class _Coverage:
    """The mass of attention that each position of the source has had, for each row's hypothesis."""

    def __init__(
        self,
        options: BeamSearchOptions,
        rows: int,
        source_lengths: Sequence[int] | Tensor,
        device: torch.device,
    ) -> None:
        self._told, self._rows = options, rows
        # Those of a tensor may lie on a device that nobody waits for.
        self._longest = 0 if isinstance(source_lengths, Tensor) else max(source_lengths)
        self._lengths = torch.as_tensor(source_lengths, dtype=torch.int64, device=device)
        self._mass: Tensor | None = None
        self._grown: Tensor | None = None

    def check(self, where: str, attention: Tensor | None) -> None:
        check_attention(where, attention, self._rows)
        if attention is not None and attention.shape[1] < self._longest:
            raise ValueError(
                f"{where}: attention: expected shape [N = {self._rows}, {self._longest} or more], "
                f"got {list(attention.shape)}"
            )

    def grow(self, attention: Tensor) -> Tensor:
        """What a step under this attention makes of it; the terms of rows before and after."""
        if self._mass is None:
            self._mass = attention.new_zeros(attention.shape, dtype=torch.float64)
        told = self._told
        self._grown, terms = torch.ops.seq2seq_ext.beam_search_coverage(
            self._mass, attention.detach(), self._lengths, told.coverage_penalty, told.beta
        )
        return cast(Tensor, terms)

    def move(self, parents: Tensor) -> None:
        """To the rows that go on, in its place, so that a graph may replay it."""
        if self._mass is not None and self._grown is not None:
            torch.index_select(self._grown, 0, parents, out=self._mass)


class _Answer:
    """A bool that a device is yet to make, on its way to the host."""

    def __init__(self, value: Tensor) -> None:
        self._value = torch.empty_like(value, device="cpu", pin_memory=value.is_cuda)
        self._value.copy_(value, non_blocking=True)
        self._arrival: torch.cuda.Event | None = None
        if value.is_cuda:
            self._arrival = torch.cuda.current_stream(value.device).record_event()

    def wait(self) -> bool:
        """It; what was launched behind the question runs on."""
        if self._arrival is not None:
            self._arrival.synchronize()
        return bool(self._value)


def _reads_paths(options: BeamSearchOptions) -> bool:
    """Whether a rule looks at what a row has said, or at its length."""
    rules = options.no_repeat_ngram_size, options.banned, options.prefix, options.force_eos
    # An EOS that comes too early is passed over, where no other token is left out for it.
    leaves_out = options.sampling != "none" or options.top_k > 0 or options.top_p < 1
    too_early = leaves_out and options.min_length > 1
    return any(rules) or options.repetition_penalty != 1 or too_early
