"""Every argument of the calls on options, texts and files, wrong in every way: named errors."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from bad_values import Call, Wanted, cases, choice, flag, instance, integer, number, path
from test_translator import text_model

import seq2seq_ext
from seq2seq_ext import BeamSearch, BeamSearchOptions, Seq2SeqConfig, Translator, Vocabulary
from seq2seq_ext.cli import main
from seq2seq_ext.decoding import TokenTrie
from seq2seq_ext.model_folder import save_model
from seq2seq_ext.text import Tokenization
from seq2seq_ext.text.noise import Noise
from seq2seq_ext.training import TrainingOptions

MAX = 2**31 - 1
TOKENS: dict[str, Any] = {"None": None, "int": 3, "str": "ab", "of None": [None], "of float": [1.5]}
TOKENS |= {"negative": [-1], "huge": [10**12], "of bool": [True]}
ID = integer(4, low=0, high=MAX)
ID.bad["bool"] = True
OPTIONS = {
    "bos_id": ID,
    "eos_id": Wanted(2, {**TOKENS, "int": 2.0, "empty": [], "twice": [2, 2]}),
    "pad_id": ID,
    "beam_size": integer(5, high=MAX),
    "n_best": integer(2, high=5),
    "max_length": integer(9, high=MAX),
    "max_length_ratio": number(0.0, low=0, high=1e6),
    "min_length": integer(1, low=0, high=9),
    "length_penalty": choice("gnmt"),
    "alpha": number(1.0, low=-10, high=10),
    "word_reward": number(0.0, low=-1e6, high=1e6),
    "length_offset": integer(0, low=-(2**20), high=MAX),
    "count_eos": flag(True),
    "coverage_penalty": choice("none"),
    "beta": number(0.0, low=0, high=1e6),
    "early_stopping": choice("exact"),
    "patience": number(1.0, low=1e-3, high=1e3),
    "finished": choice("pool"),
    "rank_by": choice("sum"),
    "full_pool": choice("best"),
    "force_eos": flag(False),
    "temperature": number(1.0, low=1e-6, high=1e6),
    "repetition_penalty": number(1.0, low=1e-6, high=1e6),
    "no_repeat_ngram_size": integer(0, low=0, high=MAX),
    "banned": Wanted([4], TOKENS),
    "shortlist": Wanted([2, 4], {**TOKENS, "None": [None], "without EOS": [4]}),
    "trie": instance(None, list=[[4]]),
    "phrases": Wanted([[4]], {**TOKENS, "flat": [4], "empty": [[]]}),
    "prefix": Wanted([4], {**TOKENS, "EOS": [2], "long": [4] * 10}),
    "top_k": integer(0, low=0, high=MAX),
    "top_p": number(1.0, low=1e-6, high=1.0),
    "rules_on": choice("logits"),
    "logits_hook": Wanted(None, {"int": 3, "str": "x"}),
    "beam_groups": integer(1, high=5),
    "diversity_penalty": number(0.0, low=0, high=1e6),
    "sampling": choice("none"),
    "seed": integer(0, low=0, high=2**64 - 1),
    "return_attention": flag(False),
    "on_step": Wanted(None, {"int": 3, "str": "x"}),
}
del OPTIONS["trie"].bad["None"]
GOOD = BeamSearchOptions(bos_id=1, eos_id=2, pad_id=0, beam_size=2, max_length=3)


def optional(wanted: Wanted) -> Wanted:
    return Wanted(
        wanted.good, {what: wrong for what, wrong in wanted.bad.items() if what != "None"}
    )


def unlimited(wanted: Wanted) -> Wanted:
    """An int without an upper end."""
    no_upper_end = ("too high", "beyond int64")
    bad = {what: wrong for what, wrong in wanted.bad.items() if what not in no_upper_end}
    return Wanted(wanted.good, bad)


SIZE, LAYERS = integer(8, high=MAX), integer(1, high=2**16)
SPECIAL = integer(0, low=0, high=MAX)
CONFIG = {
    "source_vocabulary_size": optional(integer(11, high=MAX)),
    "target_vocabulary_size": integer(11, high=MAX),
    "embedding_size": SIZE,
    "hidden_size": SIZE,
    "encoder_layers": LAYERS,
    "decoder_layers": LAYERS,
    "cell": choice("gru"),
    "attention": choice("none"),
    "attention_size": optional(SIZE),
    "input_feeding": flag(True),
    "dropout": number(0.1, low=0, high=1.0),
    "tie_output": flag(False),
    "pad_id": SPECIAL,
    "bos_id": integer(2, low=0, high=MAX),
}
TRAINING = {
    "epochs": optional(integer(3, high=MAX)),
    "steps": optional(integer(3, high=MAX)),
    "minutes": optional(number(1.0, low=1e-9, high=1e12)),
    "batch_size": integer(8, high=MAX),
    "final_batch_size": optional(integer(8, high=MAX)),
    "batch_unit": choice("tokens"),
    "learning_rate": number(1e-3, low=1e-9, high=1e12),
    "schedule": choice("constant"),
    "warmup": number(0.1, low=0, high=1),
    "final_rate": number(0.1, low=0, high=1),
    "plateau_patience": integer(1, low=0, high=MAX),
    "plateau_factor": number(0.5, low=1e-9, high=1e12),
    "weight_decay": number(0.0, low=0, high=1e12),
    "clip_norm": number(1.0, low=1e-9, high=1e12),
    "label_smoothing": number(0.1, low=0, high=1.0),
    "patience": integer(1, low=0, high=MAX),
    "validate_every": integer(1, low=0, high=MAX),
    "save_every": integer(1, high=MAX),
    "seed": integer(1, low=0, high=2**63 - 1),
    "noise": instance(Noise()),
}
NOISE = {name: number(0.1, low=0, high=1) for name in ("unknown", "delete", "swap", "duplicate")}
STRINGS: dict[str, Any] = {"None": None, "int": 3, "str": "ab", "of None": [None], "of int": [1]}


def search(kind: Callable[..., Any]) -> Call:
    def step(tokens: torch.Tensor, state: Any) -> tuple[torch.Tensor, Any]:
        return torch.zeros(len(tokens), 4), state

    arguments = {
        "step": Wanted(step, {"None": None, "int": 3, "returns None": lambda t, s: None}),
        "state": Wanted((), {"int": 3, "str": "x", "rows": torch.zeros(7), "0-d": torch.ones(())}),
        "batch_size": integer(2, high=MAX - 1),
        "options": instance(GOOD, three=[GOOD] * 3, ints=[1, 2]),
        "source_lengths": Wanted(
            None, {"int": 3, "str": "ab", "few": [1], "negative": [1, -1], "float": [1.5, 2]}
        ),
        "device": Wanted("cpu", {"none": "gpu", "float": 1.5, "list": ["cpu"]}),
    }
    return Call(kind, arguments)


def texts() -> dict[str, Call]:
    parts = text_model()
    translator, vocabulary = Translator.of(parts), parts.target_vocabulary
    size = len(vocabulary)
    id_list = Wanted([4, 2], {**TOKENS, "too large": [size]})
    del id_list.bad["of bool"]
    translate = {
        "texts": Wanted(["a"], {**STRINGS, "bytes": [b"a"]}),
        "options": Wanted(None, {"int": 3, "other ids": GOOD}),
        "beam_size": integer(5, high=MAX),
        "n_best": integer(2, high=5),
        "max_length": integer(9, high=MAX),
        "length_penalty": choice("gnmt"),
        "alpha": number(1.0, low=-10, high=10),
    }
    return {
        "Vocabulary": Call(Vocabulary, {"tokens": Wanted(["a"], {**STRINGS, "twice": ["a", "a"]})}),
        "Vocabulary.build": Call(
            Vocabulary.build,
            {
                "sequences": Wanted(["ab"], {"None": None, "int": 3, "of int": [1], "str": "ab"}),
                "min_count": unlimited(integer(1)),
                "max_size": unlimited(optional(integer(9, low=4))),
            },
        ),
        "Vocabulary.encode": Call(
            vocabulary.encode, {"tokens": Wanted(["B"], {"None": None, "int": 3})}
        ),
        "Vocabulary.decode": Call(vocabulary.decode, {"ids": id_list}),
        "Tokenization": Call(
            Tokenization,
            {
                "source": choice("words"),
                "target": choice("words"),
                "joiner": Wanted("-", {"int": 3, "list": ["-"]}),
            },
        ),
        "TokenTrie": Call(TokenTrie, {"sequences": Wanted([[4]], {**TOKENS, "none": []})}),
        "Translator.of": Call(
            Translator.of,
            {
                "parts": instance(parts),
                "batch_size": unlimited(integer(8)),
                "dtype": choice("int8"),
            },
        ),
        "Translator": Call(
            Translator, {"folder": path(None, absent="/no/such/folder", file=__file__)}
        ),
        "Translator.translate": Call(translator.translate, translate),
    }


CALLS = {
    "BeamSearchOptions": Call(BeamSearchOptions, OPTIONS),
    "BeamSearchOptions.like": Call(
        lambda system: BeamSearchOptions.like(system, bos_id=1, eos_id=2, pad_id=0),
        {"system": choice("fairseq")},
    ),
    "Seq2SeqConfig": Call(Seq2SeqConfig, CONFIG),
    "TrainingOptions": Call(TrainingOptions, TRAINING),
    "Noise": Call(Noise, NOISE),
    "beam_search": search(seq2seq_ext.beam_search),
    "greedy_search": search(seq2seq_ext.greedy_search),
    "BeamSearch": Call(
        BeamSearch, {name: search(BeamSearch).arguments[name] for name in ("batch_size", "options")}
    ),
    **texts(),
}


@pytest.mark.parametrize(("call", "argument", "what"), list(cases(CALLS)))
def test_bad_arguments_are_named(call: str, argument: str, what: str) -> None:
    wrong = CALLS[call].arguments[argument].bad[what]
    with pytest.raises((ValueError, TypeError, OSError)) as raised:
        CALLS[call].run(**{argument: wrong})
    message = str(raised.value)
    assert re.search(rf"\b{argument}\b|No such file|Not a directory", message), message
    assert re.search(r"expected|No such file|Not a directory", message), message


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    save_model(folder, *vars(text_model()).values())
    (folder / "pairs.tsv").write_text("ab\tB AE\nba\tAE B\n")
    (folder / "three.tsv").write_text("a\tb\tc\n")
    (folder / "latin.tsv").write_bytes(b"\xe9\tB\n")
    (folder / "empty.tsv").write_text("")
    return folder


TRAIN = "train --output {f}/run --train {f}/pairs.tsv --quiet --steps 1 "
COMMANDS = {
    "": "command",
    "fly": "command",
    "train --train {f}/pairs.tsv": "--output",
    "train --output {f}/run": "--train",
    "train --output {f}/run --train {f}/none.tsv": "none.tsv",
    "train --output {f}/run --train {f}/three.tsv": "three.tsv",
    "train --output {f}/run --train {f}/latin.tsv": "latin.tsv",
    "train --output {f}/run --train {f}/empty.tsv": "empty.tsv",
    "train --output {f}/run --train {f}": "{f}",
    "train --output {f}/run --train-source {f}/pairs.tsv": "--train",
    "train --output {f}/run --train-source {f}/pairs.tsv --train-target {f}/empty.tsv": "empty.tsv",
    "train --output {f}/pairs.tsv/run --train {f}/pairs.tsv": "pairs.tsv",
    TRAIN + "--epochs x": "--epochs",
    TRAIN + "--epochs 0": "epochs",
    TRAIN + "--batch-size -1": "batch_size",
    TRAIN + "--learning-rate nan": "learning_rate",
    TRAIN + "--learning-rate 0": "learning_rate",
    TRAIN + "--hidden-size 0": "hidden_size",
    TRAIN + "--hidden-size 1000000000000": "hidden_size",
    TRAIN + "--encoder-layers 1000000000000": "encoder_layers",
    TRAIN + "--cell lstn": "cell",
    TRAIN + "--attention some": "attention",
    TRAIN + "--dropout 1.5": "dropout",
    TRAIN + "--schedule none": "--schedule",
    TRAIN + "--warmup 2": "warmup",
    TRAIN + "--noise-delete 2": "delete",
    TRAIN + "--noise-swap nan": "swap",
    TRAIN + "--validation-fraction 2": "--validation-fraction",
    TRAIN + "--validation {f}/three.tsv": "three.tsv",
    TRAIN + "--source-tokens letters": "--source-tokens",
    TRAIN + "--device tpu": "device",
    TRAIN + "--threads 0": "--threads",
    TRAIN + "--threads many": "--threads",
    TRAIN + "--what 3": "--what",
    "evaluate": "model",
    "evaluate {f}": "--test",
    "evaluate {f}/none --test {f}/pairs.tsv": "none",
    "evaluate {f} --test {f}/three.tsv": "three.tsv",
    "evaluate {f} --test {f}/pairs.tsv --beam-size 0": "beam_size",
    "evaluate {f} --test {f}/pairs.tsv --batch-size 0": "batch_size",
    "translate": "model",
    "translate {f}/pairs.tsv {f}/pairs.tsv": "pairs.tsv",
    "translate {f} {f}/none.txt": "none.txt",
    "translate {f} {f}/latin.tsv": "latin.tsv",
    "translate {f} {f}/pairs.tsv --n-best 9": "n_best",
    "translate {f} {f}/pairs.tsv --alpha nan": "alpha",
    "translate {f} {f}/pairs.tsv --length-penalty log": "length_penalty",
    "translate {f} {f}/pairs.tsv --max-length 0": "max_length",
    "translate {f} {f}/pairs.tsv --dtype half": "dtype",
    "translate {f} {f}/pairs.tsv --output {f}/none/out": "none",
    "translate {f} {f}/pairs.tsv --plot {f}/pairs.tsv": "pairs.tsv",
    "info {f}/none": "none",
}


@pytest.mark.parametrize("command", COMMANDS)
def test_bad_commands_are_one_line(
    command: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(command.format(f=folder).split()) == 2
    shown = capsys.readouterr()
    assert re.fullmatch(r"seq2seq-ext: error: .*\n", shown.err), shown.err
    assert re.search(re.escape(COMMANDS[command].format(f=folder)), shown.err)
    assert not shown.out


@pytest.mark.parametrize("file", ["config.json", "model.safetensors", "source.vocabulary.json"])
@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9])
def test_truncated_files_are_named(file: str, share: float, tmp_path: Path) -> None:
    save_model(tmp_path, *vars(text_model()).values())
    whole = (tmp_path / file).read_bytes()
    (tmp_path / file).write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(ValueError, match=f"{re.escape(file)}: expected"):
        Translator(tmp_path)
