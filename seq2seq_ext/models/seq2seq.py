"""The whole model: encoder, bridge, attentional decoder."""

import torch
from torch import Tensor

from seq2seq_ext.decoding.device_search import DeviceBeamSearch
from seq2seq_ext.decoding.native_options import Options
from seq2seq_ext.decoding.step import Step
from seq2seq_ext.models import check
from seq2seq_ext.models.attentional_decoder import (
    IGNORED,
    AttentionalDecoder,
    Memory,
    PackedDecoder,
    State,
)
from seq2seq_ext.models.bridge import Bridge
from seq2seq_ext.models.config import Seq2SeqConfig
from seq2seq_ext.models.device_generation import generate_on_device, search_on_device
from seq2seq_ext.models.encoder import Encoder
from seq2seq_ext.models.generation import GenerationResult, PackedSteps, generate, search_step
from seq2seq_ext.models.native_decoder import Decoder
from seq2seq_ext.nn.packed_cache import PackedCache
from seq2seq_ext.ops import tracing
from seq2seq_ext.ops.backend import reference_active
from seq2seq_ext.ops.weight_types import check_weight_type


class Seq2Seq(torch.nn.Module):
    """A recurrent sequence-to-sequence model with attention.

    A bidirectional encoder, a fully connected bridge from its final states, and the decoder of
    Luong, Pham and Manning (2015), "Effective Approaches to Attention-based Neural Machine
    Translation", section 3, with input feeding. Dims: B batch, S source, T target, V vocabulary.

    A source is ``src`` int64 ``[B, S]`` token ids (or float ``[B, S, F]`` features) with
    ``src_lengths`` int64 ``[B]`` in any order, zero allowed; padding may hold any valid id.

    A CUDA graph may capture every method but those that search. Meanwhile ids and lengths, which
    must lie on the device, are not checked.

    Args:
        config: sizes and choices.

    Raises:
        TypeError: ``config`` is something else.

    Example:
        >>> import torch
        >>> from seq2seq_ext.models import Seq2Seq, Seq2SeqConfig
        >>> model = Seq2Seq(Seq2SeqConfig(source_vocabulary_size=10, target_vocabulary_size=12))
        >>> src, src_lengths = torch.randint(4, 10, (2, 7)), torch.tensor([7, 4])
        >>> tgt, tgt_lengths = torch.tensor([[2, 5, 6, 3], [2, 7, 3, 0]]), torch.tensor([4, 3])
        >>> model.loss(src, src_lengths, tgt, tgt_lengths).backward()
        >>> model(src, src_lengths, tgt).shape
        torch.Size([2, 4, 12])
        >>> from seq2seq_ext.decoding import BeamSearchOptions
        >>> options = BeamSearchOptions(beam_size=3, bos_id=2, eos_id=3, pad_id=0, max_length=5)
        >>> result = model.generate(src, src_lengths, options)
        >>> result.tokens.shape[:2], result.attention.shape[3]
        (torch.Size([2, 1]), 7)
    """

    def __init__(self, config: Seq2SeqConfig) -> None:
        super().__init__()
        check.instance("Seq2Seq", "config", config, Seq2SeqConfig)
        self.config = config
        self.encoder = Encoder(config)
        self.bridge = Bridge(config)
        self.decoder = AttentionalDecoder(config)

    def encode(self, src: Tensor, src_lengths: Tensor) -> Memory:
        """Everything the decoder needs of a source, computed once.

        Raises:
            ValueError, TypeError: a wrong argument, named in the message.
        """
        self._check_source("Seq2Seq.encode", src, src_lengths)
        return self._encode(src, src_lengths)

    def forward(self, src: Tensor, src_lengths: Tensor, tgt: Tensor) -> Tensor:
        """Logits under teacher forcing.

        Args:
            src, src_lengths: the source.
            tgt: int64 ``[B, T]``, beginning with BOS.

        Returns:
            ``[B, T, V]``; those at t predict ``tgt[:, t + 1]``.

        Raises:
            ValueError, TypeError: a wrong argument, named in the message.
        """
        where = "Seq2Seq.forward"
        self._check_source(where, src, src_lengths)
        self._check_target(where, tgt, src.size(0), 1)
        return self.decoder.logits(self.decoder(tgt, self._encode(src, src_lengths)))

    def loss(
        self,
        src: Tensor,
        src_lengths: Tensor,
        tgt: Tensor,
        tgt_lengths: Tensor,
        label_smoothing: float = 0.0,
    ) -> Tensor:
        """Mean cross-entropy of the real target tokens after BOS.

        Args:
            src, src_lengths: the source.
            tgt: int64 ``[B, T]``, BOS ... EOS and padding.
            tgt_lengths: int64 ``[B]``, BOS and EOS counted.
            label_smoothing: as in torch.nn.functional.cross_entropy.

        Returns:
            A scalar.

        Raises:
            ValueError, TypeError: a wrong argument, named in the message.
        """
        where = "Seq2Seq.loss"
        self._check_source(where, src, src_lengths)
        self._check_target(where, tgt, src.size(0), 2)
        check.lengths(where, "tgt_lengths", tgt_lengths, tgt.size(0), 2, tgt.size(1))
        check.fraction(where, "label_smoothing", label_smoothing)
        predicted = tgt_lengths - 1
        vectors = self.decoder(tgt[:, :-1], self._encode(src, src_lengths), predicted)
        steps = torch.arange(tgt.size(1) - 1, device=tgt.device)
        real = steps < predicted.to(tgt.device).unsqueeze(1)
        return self.decoder.loss(vectors, tgt[:, 1:].where(real, IGNORED), label_smoothing)

    def step(
        self,
        tokens: Tensor,
        state: State,
        memory: Memory,
        packed: PackedDecoder | None = None,
    ) -> tuple[Tensor, State, Tensor | None]:
        """One decoder step, to drive by hand.

        Args:
            tokens: int64 ``[N]``, N = B*K for K rows (beams) of each source, those of a source
                next to each other.
            state: ``memory.state`` at first (K = 1), then what the last step returned; nested
                dict and tuples of tensors with leading dimension N, so that a search can
                reorder it.
            memory: what :meth:`encode` gave for the B sources.
            packed: what :meth:`pack` gave; saves packing the weights at each step.

        Returns:
            logits ``[N, V]``, the new state, attention weights ``[N, S]`` (None without
            attention).

        Raises:
            ValueError, TypeError: a wrong argument, named in the message.
        """
        where = "Seq2Seq.step"
        check.step(where, self.config, tokens, state, memory)
        if packed is not None:
            check.instance(where, "packed", packed, PackedDecoder)
        return self.decoder.step(tokens, state, memory, packed)

    @torch.no_grad()
    def pack(self) -> PackedDecoder | None:
        """The decoder's weights as its kernels read them, for :meth:`step`.

        A copy: valid until a weight changes, and for the ISA in force. None on CUDA, where
        kernels read the weights as they are.
        """
        return self.decoder.pack()

    @torch.no_grad()
    def generate(self, src: Tensor, src_lengths: Tensor, options: Options) -> GenerationResult:
        """The best targets that beam search finds, with their attention; without dropout.

        A source's result is bit for bit the same alone and in any batch. A float32 model on the
        CPU decodes natively (:class:`seq2seq_ext.Decoder`); on a GPU, where all sources have the
        same plain options but for seeds, a CUDA graph replays the step, and the device never waits
        for the host: it learns a few steps late that all sentences have stopped. Any other model,
        other options, and a model with forward hooks call the search's step function in Python.

        Args:
            src, src_lengths: the source.
            options: of the search, for all sources; or a list with one for each.

        Raises:
            ValueError, TypeError: a wrong argument, named in the message.
            RuntimeError: a CUDA graph is captured.
        """
        where = "Seq2Seq.generate"
        tracing.refuse_capture(where, self.bridge.hidden.weight)
        self._check_source(where, src, src_lengths)
        told = check.search_options(where, self.config, src.size(0), options)
        if self._decodes_natively():
            return self.native_decoder().generate(src, src_lengths, told)
        was_training = self.training
        self.eval()
        try:
            decoder, device = self.decoder, self.bridge.hidden.weight.device
            if self._stays_on_device() and DeviceBeamSearch.runs(device, told):
                search = search_on_device(decoder, src_lengths, told, device)
                return generate_on_device(decoder, self._encode(src, src_lengths), search)
            memory = self._encode(src, src_lengths)
            return generate(PackedSteps(decoder), memory, told, decoder.attention is not None)
        finally:
            self.train(was_training)

    @torch.no_grad()
    def search_step(self, src: Tensor, src_lengths: Tensor, options: Options) -> tuple[Step, State]:
        """What :meth:`generate` gives to :func:`seq2seq_ext.beam_search`, to be combined.

        For an :func:`~seq2seq_ext.decoding.ensemble` or
        :func:`~seq2seq_ext.decoding.shallow_fusion`. A model that does not decode natively
        should be in eval mode.

        Args:
            src, src_lengths: the source.
            options: of the search, for all sources; or a list with one for each.

        Returns:
            A step function, and the state before the first step. It returns attention if an
            option needs it and the model has it.

        Raises:
            ValueError, TypeError: a wrong argument, named in the message.
        """
        where = "Seq2Seq.search_step"
        self._check_source(where, src, src_lengths)
        told = check.search_options(where, self.config, src.size(0), options)
        if self._decodes_natively():
            return self.native_decoder().search_step(src, src_lengths, told)
        return search_step(PackedSteps(self.decoder), self._encode(src, src_lengths), told)

    def native_decoder(self, dtype: str = "float32") -> Decoder:
        """A :class:`seq2seq_ext.Decoder` of the weights as they are, kept until one changes.

        Raises:
            ValueError, TypeError: another dtype, or a model that is not float32 on the CPU.
        """
        check_weight_type("Seq2Seq.native_decoder", dtype)
        caches = self.__dict__.setdefault("_native_decoders", {})
        cache = caches.setdefault(dtype, PackedCache())
        made = cache.get(list(self.parameters()), dtype, lambda: Decoder(self, dtype))
        return made or Decoder(self, dtype)

    def _decodes_natively(self) -> bool:
        return (
            not reference_active()
            and all(p.dtype == torch.float32 and p.is_cpu for p in self.parameters())
            and not self._has_hooks()
        )

    def _stays_on_device(self) -> bool:
        """Whether its steps may be replayed; under autocast a state could change its type."""
        is_plain = not reference_active() and not torch.is_autocast_enabled("cuda")
        return is_plain and not self._has_hooks()

    def _has_hooks(self) -> bool:
        return any(m._forward_hooks or m._forward_pre_hooks for m in self.modules())

    def _encode(self, src: Tensor, src_lengths: Tensor) -> Memory:
        memory, finals = self.encoder(src, src_lengths)
        return self.decoder.start(memory, src_lengths, self.bridge(finals))

    def _check_source(self, where: str, src: Tensor, src_lengths: Tensor) -> None:
        check.source(where, self.config, self.bridge.hidden.weight.dtype, src, src_lengths)

    def _check_target(self, where: str, tgt: Tensor, rows: int, low: int) -> None:
        check.ids(where, "tgt", tgt, "[B, T]", self.config.target_vocabulary_size)
        check.rows(where, "tgt", tgt, rows)
        if tgt.size(1) < low:
            raise ValueError(
                f"{where}: tgt: expected [B, T] with T at least {low}, got shape {list(tgt.shape)}"
            )
