"""Options as the C++ engine reads them."""

from collections.abc import Sequence

from seq2seq_ext import _C
from seq2seq_ext.decoding.check import MAX_INT
from seq2seq_ext.decoding.options import BeamSearchOptions, check_options

Options = BeamSearchOptions | Sequence[BeamSearchOptions]


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
            made[key] = _native(where, each, length)
        result.append(made[key])
    return result


def _native(where: str, options: BeamSearchOptions, source_length: int | None) -> _C.SearchOptions:
    if options.needs_source_length and source_length is None:
        name = "max_length_ratio" if options.max_length_ratio > 0 else "coverage_penalty"
        raise ValueError(f"{where}: source_lengths: expected one a sentence for {name}, got None")
    average = options.length_penalty == "average"
    return _C.SearchOptions(
        eos_ids=options.eos_ids,
        bos_id=options.bos_id,
        pad_id=options.pad_id,
        beam_size=options.beam_size,
        n_best=options.n_best,
        patience=options.patience,
        groups=options.beam_groups,
        diversity=options.diversity_penalty,
        max_length=options.length_limit(source_length or 0),
        min_length=options.min_length,
        length_penalty="power" if average else options.length_penalty,
        alpha=1.0 if average else options.alpha,
        word_reward=options.word_reward,
        length_offset=options.length_offset,
        count_eos=options.count_eos,
        coverage_penalty=options.coverage_penalty,
        beta=options.beta,
        coverage_stepwise=options.coverage_stepwise,
        source_length=source_length or 0,
        early_stopping=options.early_stopping,
        finished=options.finished,
        rank_by_score=options.rank_by == "score",
        ends_beyond_beam=options.eos_beyond_beam,
        full_pool_is_closed=options.full_pool == "first",
        force_eos=options.force_eos,
        shortlist=options.shortlist,
        rules_on_log_probs=options.rules_on == "log_probs",
        temperature=options.temperature,
        repetition_penalty=options.repetition_penalty,
        rules_see_bos=options.rules_see_bos,
        no_repeat_ngram=options.no_repeat_ngram_size,
        banned=options.banned,
        prefix=options.prefix,
        trie=options.trie and options.trie.native,
        phrases=_C.PhraseSet(options.phrases) if options.phrases else None,
        top_k=options.top_k,
        top_p=options.top_p,
        renormalize=options.renormalize,
        normalized=options.normalized,
        sampling=options.sampling,
        seed=options.seed,
    )
