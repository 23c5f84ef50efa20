"""From texts, or features, to texts with a trained model."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from seq2seq_ext.decoding import BeamSearchOptions, replace_unknown
from seq2seq_ext.decoding.native_options import Options, options_of_sentences
from seq2seq_ext.decoding.result import Lexicon
from seq2seq_ext.model_folder import TextModel, load_model
from seq2seq_ext.models import GenerationResult
from seq2seq_ext.ops.weight_types import check_weight_type
from seq2seq_ext.text import Vocabulary
from seq2seq_ext.text.batching import pad
from seq2seq_ext.text.features import check_features
from seq2seq_ext.text.vocabulary import UNK_ID


@dataclass(frozen=True, eq=False)
class Translation:
    """One hypothesis for a text.

    Attributes:
        text: the tokens joined.
        tokens: without EOS; unknown ones as ``<unk>``, or what replaced them.
        score: what n-best lists are sorted by: ``log_prob`` over the length penalty.
        log_prob: of all tokens, EOS included.
        attention: ``[L, S]``: the weights of the S source tokens when each of the L target
            tokens was chosen, EOS included; None for a model without attention.
    """

    text: str
    tokens: list[str]
    score: float
    log_prob: float
    attention: Tensor | None


class Translator:
    """Turns texts, or float features (speech), into texts with a trained model.

    Args:
        folder: what :func:`seq2seq_ext.save_model` wrote.
        batch_size: sources decoded together; no result depends on it.
        dtype: how the weights are stored while decoding: ``"float32"``, or ``"bfloat16"`` or
            ``"int8"`` (see :class:`seq2seq_ext.Decoder`), which want a float32 model on the CPU.

    Raises:
        ValueError, TypeError: a wrong argument, or a broken folder; the message names the file.
        FileNotFoundError: no such folder, or a file missing.

    Example:
        >>> import tempfile
        >>> from seq2seq_ext import Seq2Seq, Seq2SeqConfig, Translator, Vocabulary, save_model
        >>> from seq2seq_ext.text import Tokenization
        >>> letters, phones = Vocabulary.build(["read"]), Vocabulary.build([["R", "IY", "D"]])
        >>> model = Seq2Seq(Seq2SeqConfig(
        ...     source_vocabulary_size=len(letters), target_vocabulary_size=len(phones)))
        >>> folder = tempfile.mkdtemp()
        >>> save_model(folder, model, letters, phones, Tokenization("characters", "words"))
        >>> translations = Translator(folder).translate(["read", "dear"], n_best=3, max_length=5)
        >>> [len(n_best) for n_best in translations]
        [3, 3]
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        *,
        batch_size: int = 64,
        dtype: str = "float32",
    ) -> None:
        self._set(load_model(folder), batch_size, dtype)

    @classmethod
    def of(cls, parts: TextModel, *, batch_size: int = 64, dtype: str = "float32") -> "Translator":
        """A translator of a model in memory."""
        translator = cls.__new__(cls)
        translator._set(parts, batch_size, dtype)
        return translator

    def _set(self, parts: TextModel, batch_size: int, dtype: str) -> None:
        if isinstance(batch_size, bool) or not isinstance(batch_size, int):
            raise TypeError(f"Translator: batch_size: expected an int, got {batch_size!r}")
        if batch_size < 1:
            raise ValueError(f"Translator: batch_size: expected at least 1, got {batch_size}")
        check_weight_type("Translator", dtype)
        if not isinstance(parts, TextModel):
            raise TypeError(f"Translator: parts: expected a TextModel, got {parts!r}")
        self.parts = parts
        self.batch_size = batch_size
        self.dtype = dtype

    def translate(
        self,
        texts: Sequence[str | Tensor],
        options: Options | None = None,
        *,
        replace_unknown: bool = False,
        lexicon: Lexicon | None = None,
        **search: Any,
    ) -> list[list[Translation]]:
        """The best translations of each source, in the order of ``texts``.

        Sources are sorted by length inside, and a result never depends on the others. An empty
        text is a source of no tokens; tokens the model doesn't know are ``<unk>``.

        Args:
            texts: any sequence of strings; for a model of features, of float tensors ``[S, F]``.
            options: of the search, for all sources or a list with one for each; their ids must
                be the model's.
            replace_unknown: put the source's token where the model chose the unknown one: that
                which it looked at most (:func:`seq2seq_ext.decoding.replace_unknown`).
            lexicon: what a source's token becomes there; without an entry it stays itself.
            **search: or fields of :class:`~seq2seq_ext.decoding.BeamSearchOptions` but the
                ids: ``beam_size=5, n_best=1, max_length=100, ...``.

        Returns:
            For each source its ``n_best`` translations, best first.

        Raises:
            ValueError, TypeError: a wrong argument, named in the message.
        """
        where = "Translator.translate"
        if isinstance(texts, str) or not isinstance(texts, Sequence):
            raise TypeError(f"{where}: texts: expected a sequence, got {type(texts).__name__}")
        self._check_replacement(where, replace_unknown, lexicon)
        told = self._options(where, len(texts), options, search)
        encoded = [self._encode(where, i, source) for i, source in enumerate(texts)]
        order = sorted(range(len(encoded)), key=lambda i: len(encoded[i]))
        results: list[list[Translation]] = [[] for _ in texts]
        for begin in range(0, len(order), self.batch_size):
            rows = order[begin : begin + self.batch_size]
            padded, lengths = pad([encoded[i] for i in rows], self.parts.model.config.pad_id)
            found = self._generate(padded, lengths, [told[i] for i in rows])
            for row, i in enumerate(rows):
                replacement = None
                if replace_unknown and isinstance(text := texts[i], str):
                    replacement = _Replacement(self.parts.tokenization.split_source(text), lexicon)
                results[i] = self._translations(found, row, len(encoded[i]), replacement)
        return results

    def _encode(self, where: str, index: int, source: object) -> list[int] | Tensor:
        """The token ids of a text, or a source's features in the model's type."""
        vocabulary = self.parts.source_vocabulary
        if vocabulary is None:
            size = self.parts.model.config.source_feature_size
            dtype = next(self.parts.model.parameters()).dtype
            return check_features(where, f"texts[{index}]", source, size, dtype)
        if not isinstance(source, str):
            raise TypeError(f"{where}: texts[{index}]: expected a str, got {type(source).__name__}")
        return vocabulary.encode(self.parts.tokenization.split_source(source))

    def _generate(
        self, source: Tensor, lengths: Tensor, options: list[BeamSearchOptions]
    ) -> GenerationResult:
        model = self.parts.model
        if self.dtype != "float32":
            return model.native_decoder(self.dtype).generate(source, lengths, options)
        device = next(model.parameters()).device
        return model.generate(source.to(device), lengths, options)

    def _check_replacement(self, where: str, replaces: object, lexicon: object) -> None:
        if not isinstance(replaces, bool):
            raise TypeError(f"{where}: replace_unknown: expected a bool, got {replaces!r}")
        if replaces and self.parts.model.config.attention == "none":
            raise ValueError(f"{where}: replace_unknown: expected a model with attention")
        if replaces and self.parts.source_vocabulary is None:
            raise ValueError(f"{where}: replace_unknown: expected a model whose source is text")
        if lexicon is None:
            return
        if not callable(lexicon) and not isinstance(lexicon, Mapping):
            raise TypeError(f"{where}: lexicon: expected a mapping or callable, got {lexicon!r}")
        if not replaces:
            raise ValueError(f"{where}: lexicon: expected replace_unknown=True with it")

    def _options(
        self, where: str, sources: int, options: Options | None, search: dict[str, Any]
    ) -> list[BeamSearchOptions]:
        """One for each text."""
        config = self.parts.model.config
        ids: dict[str, Any] = {
            "bos_id": config.bos_id,
            "eos_id": config.eos_id,
            "pad_id": config.pad_id,
        }
        if options is None:
            known = set(BeamSearchOptions.__dataclass_fields__) - set(ids)
            if unknown := sorted(set(search) - known):
                raise TypeError(f"{where}: expected keywords among {sorted(known)}, got {unknown}")
            options = BeamSearchOptions(**{**ids, **search})
        elif search:
            raise ValueError(f"{where}: options: expected None beside {sorted(search)}")
        told = options_of_sentences(where, sources, options)
        for each in {id(one): one for one in told}.values():
            if any(getattr(each, name) != id_ for name, id_ in ids.items()):
                raise ValueError(f"{where}: options: expected the model's {ids}, got {each}")
        return told

    def _translations(
        self,
        found: GenerationResult,
        row: int,
        source_length: int,
        replacement: "_Replacement | None",
    ) -> list[Translation]:
        vocabulary = self.parts.target_vocabulary
        translations = []
        for rank in range(found.lengths.size(1)):
            length, log_prob = int(found.lengths[row, rank]), float(found.log_probs[row, rank])
            if length == 0:  # fewer than n_best exist
                break
            ids = found.tokens[row, rank, :length].tolist()
            attention = found.attention
            if attention is not None:
                attention = attention[row, rank, :length, :source_length]
            if replacement is None or attention is None:
                tokens = vocabulary.decode(ids)
            else:
                tokens = replacement.decode(vocabulary, ids, attention)
            translations.append(
                Translation(
                    self.parts.tokenization.join_target(tokens),
                    tokens,
                    float(found.scores[row, rank]),
                    log_prob,
                    attention,
                )
            )
        return translations


@dataclass(frozen=True)
class _Replacement:
    """What a source's hypotheses have where the model had no word."""

    source: list[str]
    lexicon: Lexicon | None

    def decode(self, vocabulary: Vocabulary, ids: list[int], attention: Tensor) -> list[str]:
        """As ``vocabulary.decode(ids)``, without unknown tokens unless the source is empty.

        A known token may look like the unknown one: ids tell them apart.
        """
        if not self.source:
            return vocabulary.decode(ids)
        tokens, alignment = [], []
        for id_, position in zip(ids, attention.argmax(1).tolist(), strict=True):
            for token in vocabulary.decode([id_]):  # none of padding, BOS and EOS
                tokens.append(None if id_ == UNK_ID else token)
                alignment.append(position)
        return replace_unknown(tokens, alignment, self.source, None, self.lexicon)
