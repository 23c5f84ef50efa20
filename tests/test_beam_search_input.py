"""Every wrong argument of the searches: a clear error that names it."""

import threading

import numpy as np
import pytest
import torch
from prefix_model import PrefixModel, make_options

from seq2seq_ext import _C
from seq2seq_ext.decoding import BeamSearch, BeamSearchOptions, beam_search

OPTIONS = {
    "bos negative": ({"bos_id": -1}, ValueError, "bos_id: expected an int from 0"),
    "eos float": ({"eos_id": 2.0}, TypeError, "eos_id: expected an int, got 2.0"),
    "eos list": ({"eos_id": [2, "3"]}, TypeError, "eos_id: expected token ids, got '3'"),
    "eos none": ({"eos_id": []}, ValueError, "eos_id: expected one or several"),
    "eos twice": ({"eos_id": [2, 2]}, ValueError, "eos_id: expected one or several that differ"),
    "pad negative": ({"pad_id": -100}, ValueError, "pad_id: .* got -100"),
    "pad none": ({"pad_id": None}, TypeError, "pad_id: expected an int, got None"),
    "beam zero": ({"beam_size": 0}, ValueError, "beam_size: expected an int from 1"),
    "beam bool": ({"beam_size": True}, TypeError, "beam_size: expected an int, got True"),
    "beam huge": ({"beam_size": 2**40}, ValueError, "beam_size: "),
    "n_best zero": ({"n_best": 0}, ValueError, "n_best: expected an int from 1 to 5, got 0"),
    "n_best beyond": ({"n_best": 6}, ValueError, "n_best: expected an int from 1 to 5, got 6"),
    "max_length zero": ({"max_length": 0}, ValueError, "max_length: .* got 0"),
    "max_length str": ({"max_length": "9"}, TypeError, "max_length: expected an int, got '9'"),
    "min_length negative": ({"min_length": -1}, ValueError, "min_length: .* got -1"),
    "min beyond max": ({"min_length": 101}, ValueError, "min_length: expected .* to 100, got 101"),
    "penalty": ({"length_penalty": "avg"}, ValueError, "length_penalty: expected one of .*'avg'"),
    "penalty none": ({"length_penalty": None}, ValueError, "length_penalty: .* got None"),
    "alpha nan": ({"alpha": float("nan")}, ValueError, "alpha: .* got nan"),
    "alpha inf": ({"alpha": float("inf")}, ValueError, "alpha: .* got inf"),
    "alpha large": ({"alpha": -11}, ValueError, "alpha: .* got -11"),
    "alpha str": ({"alpha": "1"}, TypeError, "alpha: expected a number, got '1'"),
}


@pytest.mark.parametrize("case", OPTIONS)
def test_options(case):
    fields, error, message = OPTIONS[case]
    with pytest.raises(error, match=f"BeamSearchOptions: {message}"):
        make_options(**fields)


def test_ids_are_required_and_options_are_frozen():
    with pytest.raises(TypeError, match="bos_id"):
        BeamSearchOptions(eos_id=1, pad_id=0)  # type: ignore[call-arg]
    with pytest.raises(AttributeError):
        make_options().beam_size = 3  # type: ignore[misc]


def step_returning(make):
    return lambda tokens, state: make(tokens.shape[0], state)


STEPS = {
    "nothing": (lambda n, s: None, TypeError, r"step: expected to return \(logits, state\)"),
    "logits alone": (lambda n, s: torch.zeros(n, 4), TypeError, r"\(logits, state\), got Tensor"),
    "three": (lambda n, s: (torch.zeros(n, 4), s, s), TypeError, "step: expected to return"),
    "list": (lambda n, s: ([[0.0] * 4] * n, s), TypeError, "step: logits: expected a tensor"),
    "numpy": (lambda n, s: (np.zeros((n, 4)), s), TypeError, "step: logits: .* got ndarray"),
    "ints": (lambda n, s: (torch.zeros(n, 4).long(), s), TypeError, "step: logits: .*int64"),
    "complex": (lambda n, s: (torch.zeros(n, 4) * 1j, s), TypeError, "step: logits: .*complex"),
    "rows": (lambda n, s: (torch.zeros(n + 1, 4), s), ValueError, r"\[N = 10, V\], got \[11, 4\]"),
    "batch": (lambda n, s: (torch.zeros(2, 4), s), ValueError, r"\[N = 10, V\], got \[2, 4\]"),
    "3d": (lambda n, s: (torch.zeros(n, 1, 4), s), ValueError, r"logits: .* got \[10, 1, 4\]"),
    "no vocabulary": (lambda n, s: (torch.zeros(n, 0), s), ValueError, "logits: expected shape"),
    "state leaf": (
        lambda n, s: (torch.zeros(n, 4), {"h": (1,)}),
        TypeError,
        r"step: state\['h'\]\[0\]: .*int",
    ),
    "state rows": (
        lambda n, s: (torch.zeros(n, 4), [torch.zeros(2, n)]),
        ValueError,
        r"step: state\[0\]: expected leading dimension N = 10, got shape \[2, 10\]",
    ),
}


@pytest.mark.parametrize("case", STEPS)
def test_step(case):
    make, error, message = STEPS[case]
    with pytest.raises(error, match=f"beam_search: step.*{message}|beam_search: {message}"):
        beam_search(step_returning(make), (), batch_size=2, options=make_options())


ARGUMENTS = {
    "step": ({"step": 3}, TypeError, "step: expected a callable, got int"),
    "options": ({"options": {"beam_size": 2}}, TypeError, "options: expected BeamSearchOptions"),
    "batch zero": ({"batch_size": 0}, ValueError, "batch_size: .* got 0"),
    "batch float": ({"batch_size": 2.0}, TypeError, "batch_size: expected an int, got 2.0"),
    "batch huge": ({"batch_size": 2**31 - 1}, ValueError, "beam_size: .*batch_size"),
    "state leaf": ({"state": "h"}, TypeError, "state: expected a tensor .* got str"),
    "state path": (
        {"state": {"h": [torch.zeros(10), torch.zeros(9)]}},
        ValueError,
        r"state\['h'\]\[1\]: expected leading dimension N = 10, got shape \[9\]",
    ),
    "state scalar": ({"state": torch.tensor(1.0)}, ValueError, r"state: .* N = 10, got shape \[\]"),
    "device": ({"device": "gpu"}, ValueError, "device: expected a torch device, got 'gpu'"),
    "device absent": (
        {"device": "cuda:77"},
        ValueError,
        "device: expected a torch device, got 'cuda:77'",
    ),
    "device type": ({"device": 1.5}, ValueError, "device: expected a torch device, got 1.5"),
    "eos": ({"options": make_options(eos_id=4)}, ValueError, "logits: .*eos_id = 4, got V = 4"),
}


@pytest.mark.parametrize("case", ARGUMENTS)
def test_arguments(case):
    changes, error, message = ARGUMENTS[case]
    arguments = {
        "step": step_returning(lambda n, state: (torch.zeros(n, 4), state)),
        "state": (),
        "batch_size": 2,
        "options": make_options(),
        **changes,
    }
    with pytest.raises(error, match=message):
        beam_search(arguments.pop("step"), arguments.pop("state"), **arguments)


def test_by_hand():
    search = BeamSearch(2, make_options(beam_size=3, max_length=1))
    with pytest.raises(RuntimeError, match=r"BeamSearch.result: expected a search that is done"):
        search.result()
    for wrong in (torch.zeros(5, 4), torch.zeros(6), torch.zeros(6, 0)):
        with pytest.raises(ValueError, match=r"BeamSearch.advance: logits: expected shape"):
            search.advance(wrong)
    with pytest.raises(TypeError, match=r"BeamSearch.advance: logits: expected a floating dtype"):
        search.advance(torch.zeros(6, 4, dtype=torch.int32))
    search.advance(torch.zeros(6, 4))
    with pytest.raises(RuntimeError, match=r"BeamSearch.advance: expected a search that goes on"):
        search.advance(torch.zeros(6, 4))
    assert len(search.result().hypotheses) == 2
    search = BeamSearch(2, make_options(beam_size=3, max_length=3))
    search.advance(torch.zeros(6, 5))
    for wrong in (4, 6):
        with pytest.raises(ValueError, match=r"advance: logits: expected 5 tokens as before"):
            search.advance(torch.zeros(6, wrong))
    with pytest.raises(TypeError, match="BeamSearch: options: expected BeamSearchOptions"):
        BeamSearch(2, None)


ENGINE = {"eos_id": [0], "beam_size": 2, "max_length": 5}


def engine(batch_size=2, **fields):
    return _C.BeamSearch([_C.SearchOptions(**{**ENGINE, **fields})] * batch_size)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("beam_size", 0),
        ("beam_size", 2**62),
        ("n_best", 3),
        ("max_length", 0),
        ("min_length", 6),
        ("length_penalty", "x"),
        ("finished", "x"),
        ("alpha", float("nan")),
        ("beam_groups", 3),
        ("beam_groups", 0),
        ("eos_id", []),
        ("eos_id", [-1]),
        ("banned", [[]]),
        ("banned", [[2**40]]),
        ("prefix", [1] * 6),
        ("shortlist", [3, 1]),
        ("top_p", 0.0),
        ("temperature", 0.0),
        ("repetition_penalty", -1.0),
        ("source_length", -1),
        ("diversity_penalty", -1.0),
    ],
)
def test_the_engine_checks_its_options_itself(field, value):
    with pytest.raises(ValueError, match=f"SearchOptions: {field}: expected"):
        _C.SearchOptions(**{**ENGINE, field: value})


def test_the_engine_knows_its_options():
    with pytest.raises(TypeError, match="SearchOptions: no field 'beams'"):
        _C.SearchOptions(beams=3)
    with pytest.raises(ValueError, match="BeamSearch: batch_size: expected at least 1, got 0"):
        _C.BeamSearch([])


@pytest.mark.parametrize(
    ("log_probs", "tokens", "name"),
    [
        (np.zeros((3, 2)), np.zeros((3, 2), int), "log_probs"),
        (np.zeros(4), np.zeros(4, int), "log_probs"),
        (np.zeros((4, 0)), np.zeros((4, 0), int), "log_probs"),
        (np.zeros((4, 2)), np.zeros((4, 3), int), "tokens"),
        (np.zeros((4, 2)), np.zeros(8, int), "tokens"),
    ],
)
def test_the_engine_checks_its_candidates_itself(log_probs, tokens, name):
    with pytest.raises(ValueError, match=f"BeamSearch.advance: {name}: expected shape"):
        engine().advance(log_probs, tokens)


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"finished": "carry", "rank_by": "score", "length_penalty": "power"},
        {"finished": "shrink"},
        {"finished": "dip", "early_stopping": "none"},
        {"beam_groups": 2, "diversity_penalty": 0.5},
        {"sampling": "gumbel"},
        {"sampling": "ancestral"},
        {"coverage_penalty": "gnmt", "source_length": 3, "beta": 1.0},
        {"phrases": _C.PhraseSet([[1, 2], [3]])},
        {"trie": _C.TokenTrie([[1, 2], [3]])},
    ],
    ids=lambda fields: next(iter(fields.values()), "plain"),
)
def test_the_engine_survives_any_candidates(fields):
    """Nonsense in, no crash out."""
    random = np.random.default_rng(0)
    for _ in range(100):
        search = engine(beam_size=4, n_best=4, **fields)
        while not search.done:
            width = random.integers(1, 9)
            log_probs, noisy = random.choice(
                [np.nan, np.inf, -np.inf, 1e308, -1e308, 0], (2, 8, width)
            )
            tokens = random.integers(-9, 9, (8, width))
            _tokens, parents = search.advance(log_probs, tokens, noisy, np.full((8, 3), np.nan))
            assert ((parents >= 0) & (parents < 8)).all()
            for sentence in range(2):
                search.live(sentence)
                search.ended(sentence)
        search.result()


@pytest.mark.parametrize(
    "fields",
    [
        {"trie": _C.TokenTrie([[3, 1], [4]]), "eos_id": [2, 3]},
        {"force_eos": True, "eos_id": [3, 3, 2], "max_length": 1},
    ],
    ids=["trie", "force_eos"],
)
def test_the_engine_survives_a_token_allowed_twice(fields):
    search = engine(**fields)
    _, tokens, _ = search.choose(np.zeros((4, 6)))
    assert tokens.max() < 6


def test_the_engine_refuses_rules_on_tokens_it_was_made_to_swallow():
    search = engine(repetition_penalty=2.0)
    search.advance(np.zeros((4, 1)), np.full((4, 1), 99))
    with pytest.raises(ValueError, match="every token chosen so far"):
        search.choose(np.zeros((4, 5)))


def test_threads_may_share_an_engine():
    model = PrefixModel(9, 0)
    search = BeamSearch(4, make_options(beam_size=4, max_length=200, min_length=200))

    def work():
        while not search.done:
            try:
                search.advance(model.logits[:16])
            except RuntimeError as error:
                assert "goes on" in str(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert search.result().lengths.tolist() == [[200]] * 4
