"""Fields of BeamSearchOptions under which the search finds what other systems find.

Read from their sources: transformers 5.23, fairseq 0.12, OpenNMT-py 3.5, CTranslate2 4.8,
JoeyNMT 2.3; "carry" is the beam of beamgrad 2.3, AllenNLP and TensorFlow Addons.
"""

from collections.abc import Iterable
from typing import Any

from seq2seq_ext.decoding.check import check_choice

Fields = dict[str, Any]

_EARLY_STOPPING = {True: "first", False: "heuristic", "never": "exact"}


def _transformers(given: Fields) -> Fields:
    """Its processors see the prompt, and log-probs that are not normalised again."""
    early_stopping = given.get("early_stopping", False)
    if not isinstance(early_stopping, bool) and early_stopping != "never":
        raise ValueError(
            "BeamSearchOptions.like: early_stopping: expected True, False or 'never', got "
            f"{early_stopping!r}"
        )
    return {
        "length_penalty": "power",
        "eos_beyond_beam": False,
        "rules_on": "log_probs",
        "rules_see_bos": True,
        **given,
        "early_stopping": _EARLY_STOPPING[early_stopping],
    }


def _fairseq(given: Fields) -> Fields:
    """At least one token before EOS, which ends every hypothesis; never padding.

    Its n-gram blocking compares padding on a CPU and blocks by chance; ours blocks.
    """
    return {
        "length_penalty": "power",
        "early_stopping": "first",
        "full_pool": "first",
        "eos_beyond_beam": False,
        "force_eos": True,
        "min_length": 2,
        **given,
        "banned": _also_banned(given, "pad_id"),
    }


def _opennmt(given: Fields) -> Fields:
    """BOS counts as a token, and rules see it. Its stepwise coverage penalty is divided by the
    length penalty, ours is not.
    """
    return {
        "length_offset": 1,
        "finished": "dip",
        "early_stopping": "top_now",
        "rules_see_bos": True,
        **given,
    }


def _ctranslate2(given: Fields) -> Fields:
    """Without penalties a sentence may stop with its best candidate."""
    plain = given.get("alpha", 1.0) == 0 and given.get("coverage_penalty", "none") == "none"
    return {
        "length_penalty": "power",
        "early_stopping": "top" if plain else "first",
        "eos_beyond_beam": False,
        "renormalize": True,
        **given,
    }


def _joeynmt(given: Fields) -> Fields:
    """At least one token before EOS; never BOS or padding. Rules see log-probs."""
    return {
        "length_penalty": "gnmt",
        "alpha": 0.0,
        "finished": "extend",
        "early_stopping": "places",
        "min_length": 2,
        "rules_on": "log_probs",
        **given,
        "banned": _also_banned(given, "bos_id", "pad_id"),
    }


def _carry(given: Fields) -> Fields:
    """Finished hypotheses compete with the others by their scores."""
    return {"finished": "carry", "rank_by": "score", **given}


def _also_banned(given: Fields, *names: str) -> Any:
    banned = given.get("banned", ())
    if not isinstance(banned, Iterable):
        return banned  # for BeamSearchOptions to refuse
    return [*banned, *(given[name] for name in names if name in given)]


_PRESETS = {
    "transformers": _transformers,
    "fairseq": _fairseq,
    "opennmt": _opennmt,
    "ctranslate2": _ctranslate2,
    "joeynmt": _joeynmt,
    "carry": _carry,
}


def preset(system: str, given: Fields) -> Fields:
    """The fields of a system, with those given in their places."""
    check_choice("BeamSearchOptions.like", "system", system, tuple(_PRESETS))
    return _PRESETS[system](given)
