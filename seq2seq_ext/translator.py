"""A trained model in a folder, from text to text."""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from seq2seq_ext.decoding import BeamSearchOptions, replace_unknown
from seq2seq_ext.decoding.native import Options, options_of_sentences
from seq2seq_ext.decoding.result import Lexicon
from seq2seq_ext.files import atomic_write
from seq2seq_ext.models import GenerationResult, Seq2Seq, Seq2SeqConfig
from seq2seq_ext.ops.weight_types import check_weight_type
from seq2seq_ext.text import Tokenization, Vocabulary
from seq2seq_ext.text.batching import pad
from seq2seq_ext.text.vocabulary import UNK_ID

_FORMAT = "seq2seq_ext model 1"
_CONFIG, _WEIGHTS = "config.json", "model.safetensors"
_SOURCE, _TARGET = "source.vocabulary.json", "target.vocabulary.json"


@dataclass(frozen=True)
class TextModel:
    """A model with what it takes to feed it texts; what :func:`load_model` reads."""

    model: Seq2Seq
    source_vocabulary: Vocabulary
    target_vocabulary: Vocabulary
    tokenization: Tokenization

    def __post_init__(self) -> None:
        for name, kind in (
            ("model", Seq2Seq),
            ("source_vocabulary", Vocabulary),
            ("target_vocabulary", Vocabulary),
            ("tokenization", Tokenization),
        ):
            if not isinstance(value := getattr(self, name), kind):
                raise TypeError(
                    f"TextModel: {name}: expected a {kind.__name__}, got {type(value).__name__}"
                )
        config = self.model.config
        for side in ("source", "target"):
            size = getattr(config, f"{side}_vocabulary_size")
            if len(getattr(self, f"{side}_vocabulary")) != size:
                raise ValueError(
                    f"TextModel: {side}_vocabulary: expected {size} ids like the model's config, "
                    f"got {len(getattr(self, f'{side}_vocabulary'))}"
                )
        ids = (config.pad_id, config.unk_id, config.bos_id, config.eos_id)
        if ids != (0, 1, 2, 3):
            raise ValueError(
                "TextModel: model: expected a config with pad, unk, bos and eos ids (0, 1, 2, 3) "
                f"like Vocabulary, got {ids}"
            )


def save_model(
    folder: str | os.PathLike[str],
    model: Seq2Seq,
    source_vocabulary: Vocabulary,
    target_vocabulary: Vocabulary,
    tokenization: Tokenization,
) -> None:
    """Writes a model as a folder: config.json, model.safetensors and two vocabularies.

    Each file is replaced whole; the config, without which a folder is none, comes last.

    Raises:
        ValueError, TypeError: parts that don't fit together.
        OSError: the folder can't be written.
    """
    TextModel(model, source_vocabulary, target_vocabulary, tokenization)
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    source_vocabulary.save(folder / _SOURCE)
    target_vocabulary.save(folder / _TARGET)
    tensors = {name: t.detach().contiguous() for name, t in model.state_dict().items()}
    with atomic_write(folder / _WEIGHTS, "wb") as file:
        file.write(safetensors.torch.save(tensors))
    config = {
        "format": _FORMAT,
        "model": model.config.to_dict(),
        "tokenization": tokenization.to_dict(),
    }
    with atomic_write(folder / _CONFIG) as file:
        file.write(json.dumps(config, indent=2) + "\n")


def load_model(folder: str | os.PathLike[str]) -> TextModel:
    """Reads what :func:`save_model` wrote; the model is in eval mode.

    Raises:
        ValueError: a file that is broken or doesn't fit; the message names it.
        FileNotFoundError: no such folder, or a file missing.
    """
    if not isinstance(folder, (str, os.PathLike)):
        raise TypeError(f"load_model: folder: expected a path, got {folder!r}")
    folder = Path(folder)
    config = _read_config(folder / _CONFIG)
    try:
        model = Seq2Seq(Seq2SeqConfig.from_dict(config["model"]))
        tokenization = Tokenization.from_dict(config["tokenization"])
    except (TypeError, ValueError) as error:
        raise ValueError(f"{folder / _CONFIG}: {error}") from None
    _load_weights(model, folder / _WEIGHTS)
    source, target = (Vocabulary.load(folder / name) for name in (_SOURCE, _TARGET))
    try:
        return TextModel(model.eval(), source, target, tokenization)
    except ValueError as error:
        raise ValueError(f"{folder}: {error}") from None


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
    """Turns texts into texts with a trained model.

    Args:
        folder: what :func:`save_model` wrote.
        batch_size: texts decoded together; no result depends on it.
        dtype: how the weights are stored while decoding: ``"float32"``, or ``"bfloat16"`` or
            ``"int8"`` (see :class:`seq2seq_ext.Decoder`), which want a float32 model on the CPU.

    Raises:
        ValueError, TypeError: a wrong argument, or a broken folder; the message names the file.
        FileNotFoundError: no such folder, or a file missing.

    Example:
        >>> import tempfile
        >>> from seq2seq_ext.models import Seq2Seq, Seq2SeqConfig
        >>> from seq2seq_ext.text import Tokenization, Vocabulary
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
        texts: Sequence[str],
        options: Options | None = None,
        *,
        replace_unknown: bool = False,
        lexicon: Lexicon | None = None,
        **search: Any,
    ) -> list[list[Translation]]:
        """The best translations of each text, in the order of ``texts``.

        Texts are sorted by length inside, and a result never depends on the other texts. An
        empty text is a source of no tokens; tokens the model doesn't know are ``<unk>``.

        Args:
            texts: any sequence of strings.
            options: of the search, for all texts or a list with one for each; their ids must be
                the model's.
            replace_unknown: put the source's token where the model chose the unknown one: that
                which it looked at most (:func:`seq2seq_ext.decoding.replace_unknown`).
            lexicon: what a source's token becomes there; without an entry it stays itself.
            **search: or fields of :class:`~seq2seq_ext.decoding.BeamSearchOptions` but the
                ids: ``beam_size=5, n_best=1, max_length=100, ...``.

        Returns:
            For each text its ``n_best`` translations, best first.

        Raises:
            ValueError, TypeError: a wrong argument, named in the message.
        """
        where = "Translator.translate"
        if isinstance(texts, str) or not isinstance(texts, Sequence):
            raise TypeError(
                f"{where}: texts: expected a sequence of str, got {type(texts).__name__}"
            )
        for text in texts:
            if not isinstance(text, str):
                raise TypeError(f"{where}: texts: expected str, got {type(text).__name__}")
        self._check_replacement(where, replace_unknown, lexicon)
        told = self._options(where, len(texts), options, search)
        parts = self.parts
        sources = [parts.tokenization.split_source(text) for text in texts]
        ids = [parts.source_vocabulary.encode(source) for source in sources]
        order = sorted(range(len(ids)), key=lambda i: len(ids[i]))
        results: list[list[Translation]] = [[] for _ in texts]
        for begin in range(0, len(order), self.batch_size):
            rows = order[begin : begin + self.batch_size]
            padded, lengths = pad([ids[i] for i in rows], parts.model.config.pad_id)
            found = self._generate(padded, lengths, [told[i] for i in rows])
            for row, i in enumerate(rows):
                replacement = _Replacement(sources[i], lexicon) if replace_unknown else None
                results[i] = self._translations(found, row, len(ids[i]), replacement)
        return results

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
        if lexicon is None:
            return
        if not callable(lexicon) and not isinstance(lexicon, Mapping):
            raise TypeError(f"{where}: lexicon: expected a mapping or callable, got {lexicon!r}")
        if not replaces:
            raise ValueError(f"{where}: lexicon: expected replace_unknown=True with it")

    def _options(
        self, where: str, texts: int, options: Options | None, search: dict[str, Any]
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
        told = options_of_sentences(where, texts, options)
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


def _read_config(path: Path) -> dict[str, Any]:
    try:
        config: Any = json.loads(path.read_bytes())
    except ValueError as error:
        raise ValueError(f"{path}: expected a model's config in JSON: {error}") from None
    if not isinstance(config, dict) or config.get("format") != _FORMAT:
        raise ValueError(f'{path}: expected a config with "format": "{_FORMAT}"')
    if missing := [key for key in ("model", "tokenization") if key not in config]:
        raise ValueError(f"{path}: expected the keys {missing}")
    return config


def _load_weights(model: Seq2Seq, path: Path) -> None:
    try:
        weights = safetensors.torch.load_file(path)
    except safetensors.SafetensorError as error:
        raise ValueError(f"{path}: expected a safetensors file: {error}") from None
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        raise ValueError(f"{path}: expected the weights of its config: {error}") from None
    # What was saved in float64 stays in float64.
    dtypes = {t.dtype for t in weights.values()}
    if dtypes == {torch.float64}:
        model.double().load_state_dict(weights)
