"""Options as the C++ engine reads them."""

import weakref
from collections.abc import Callable, Sequence

from seq2seq_ext import _C
from seq2seq_ext.decoding.check import MAX_INT
from seq2seq_ext.decoding.options import BeamSearchOptions, check_options

Options = BeamSearchOptions | Sequence[BeamSearchOptions]

# Fields that the engine never sees.
_PYTHON_S_OWN = {"max_length_ratio", "logits_hook", "on_step", "return_attention"}

# The engine's of options in use that no source's length changes, by the id of Python's: making
# them takes as long as several steps of a small model.
_made: dict[int, tuple[weakref.ref[BeamSearchOptions], _C.SearchOptions]] = {}


def options_of_sentences(where: str, batch_size: int, options: Options) -> list[BeamSearchOptions]:
    """One for each sentence, whichever way they came."""
    if isinstance(options, BeamSearchOptions):
        rows = batch_size * options.beam_size
        if rows <= MAX_INT:
            return [options] * batch_size
    elif not isinstance(options, (list, tuple)):
        raise TypeError(
            f"{where}: options: expected BeamSearchOptions, or a list of them, got {options!r}"
        )
    else:
        for each in options:
            check_options(where, each)
        if len(options) != batch_size:
            raise ValueError(
                f"{where}: options: expected one or batch_size = {batch_size} of them, got "
                f"{len(options)}"
            )
        rows = sum(each.beam_size for each in options)
        if rows <= MAX_INT:
            return list(options)
    raise ValueError(f"{where}: beam_size: expected batch_size * beam_size below 2^31, got {rows}")


def changed_options(
    options: Sequence[BeamSearchOptions], change: Callable[[BeamSearchOptions], BeamSearchOptions]
) -> list[BeamSearchOptions]:
    """Each changed; those that are one object stay one."""
    made = {id(each): change(each) for each in {id(one): one for one in options}.values()}
    return [made[id(each)] for each in options]


def native_options(
    where: str, options: Sequence[BeamSearchOptions], source_lengths: Sequence[int] | None
) -> list[_C.SearchOptions]:
    """The engine's, for sentences with these sources."""
    made: dict[tuple[int, int | None], _C.SearchOptions] = {}
    result = []
    for i, each in enumerate(options):
        length = source_lengths[i] if each.needs_source_length and source_lengths else None
        key = (id(each), length)
        if key not in made:
            made[key] = _native(where, each, length) if length is not None else _kept(where, each)
        result.append(made[key])
    return result


def _kept(where: str, options: BeamSearchOptions) -> _C.SearchOptions:
    key = id(options)
    if key in _made:
        return _made[key][1]
    native = _native(where, options, None)
    _made[key] = weakref.ref(options, lambda _: _made.pop(key, None)), native
    return native


def _native(where: str, options: BeamSearchOptions, source_length: int | None) -> _C.SearchOptions:
    if options.needs_source_length and source_length is None:
        name = "max_length_ratio" if options.max_length_ratio > 0 else "coverage_penalty"
        raise ValueError(f"{where}: source_lengths: expected one a sentence for {name}, got None")
    fields = {name: value for name, value in vars(options).items() if name not in _PYTHON_S_OWN}
    resolved = {
        "eos_id": options.eos_ids,
        "max_length": options.length_limit(source_length or 0),
        "source_length": source_length or 0,
        "trie": options.trie and options.trie.native,
        "phrases": _C.PhraseSet(options.phrases) if options.phrases else None,
    }
    return _C.SearchOptions(**{**fields, **resolved})
