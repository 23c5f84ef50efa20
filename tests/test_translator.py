"""Translator and the model's folder."""

import pytest
import torch

from seq2seq_ext.decoding import BeamSearchOptions
from seq2seq_ext.model_folder import TextModel, load_model, save_model
from seq2seq_ext.models import Seq2Seq, Seq2SeqConfig
from seq2seq_ext.text import Tokenization, Vocabulary
from seq2seq_ext.translator import Translator

TEXTS = ["badge", "", "a", "face", "zzz", "gadfacebead", "a", "😀é"]


def text_model(**fields):
    torch.manual_seed(3)
    source, target = Vocabulary(list("abcdefg")), Vocabulary(["B", "AE", "JH", "F", "EY", "S", "D"])
    config = Seq2SeqConfig(
        source_vocabulary_size=len(source),
        target_vocabulary_size=len(target),
        embedding_size=12,
        hidden_size=16,
        **fields,
    )
    return TextModel(Seq2Seq(config), source, target, Tokenization("characters", "words"))


@pytest.fixture
def folder(tmp_path):
    parts = text_model()
    save_model(tmp_path, *vars(parts).values())
    return tmp_path


def values(translations):
    return [
        [(t.text, t.tokens, t.score, t.log_prob, t.attention.tolist()) for t in n_best]
        for n_best in translations
    ]


def test_folder_keeps_everything(folder):
    parts, loaded = text_model(), load_model(folder)
    assert loaded.model.config == parts.model.config
    assert loaded.source_vocabulary == parts.source_vocabulary
    assert loaded.target_vocabulary == parts.target_vocabulary
    assert loaded.tokenization == parts.tokenization
    assert not loaded.model.training
    weights = loaded.model.state_dict()
    for name, weight in parts.model.state_dict().items():
        assert torch.equal(weights[name], weight), name
    assert sorted(path.name for path in folder.iterdir()) == [
        "config.json",
        "model.safetensors",
        "source.vocabulary.json",
        "target.vocabulary.json",
    ]
    from_memory = Translator.of(parts).translate(TEXTS, n_best=2, max_length=8)
    assert values(Translator(folder).translate(TEXTS, n_best=2, max_length=8)) == values(
        from_memory
    )


def test_results_depend_on_no_other_text(folder):
    alone = [Translator(folder).translate([text], n_best=3, max_length=8)[0] for text in TEXTS]
    for batch_size in (1, 3, 64):
        together = Translator(folder, batch_size=batch_size).translate(
            TEXTS, n_best=3, max_length=8
        )
        assert values(together) == values(alone)


def test_translations_fit_their_text(folder):
    translator = Translator(folder)
    assert translator.translate([]) == []
    for text, n_best in zip(TEXTS, translator.translate(TEXTS, beam_size=4, n_best=4), strict=True):
        assert len(n_best) == 4
        scores = [t.score for t in n_best]
        assert scores == sorted(scores, reverse=True)
        for t in n_best:
            assert t.text == " ".join(t.tokens)
            assert t.attention.shape[1] == len(text)
            assert len(t.tokens) <= t.attention.shape[0] <= 100
            if text:
                torch.testing.assert_close(t.attention.sum(1), torch.ones(len(t.attention)))


def test_options_and_keywords_agree(folder):
    translator = Translator(folder)
    options = BeamSearchOptions(
        bos_id=2, eos_id=3, pad_id=0, beam_size=3, max_length=6, length_penalty="gnmt", alpha=0.6
    )
    keywords = {"beam_size": 3, "max_length": 6, "length_penalty": "gnmt", "alpha": 0.6}
    assert values(translator.translate(TEXTS, options)) == values(
        translator.translate(TEXTS, **keywords)
    )


def test_a_list_gives_every_text_its_own_options(folder):
    translator = Translator(folder, batch_size=3)
    ids = {"bos_id": 2, "eos_id": 3, "pad_id": 0}
    options = [
        BeamSearchOptions(**ids, beam_size=1 + i % 4, n_best=1 + i % 2 * (i % 4), max_length=4 + i)
        for i in range(len(TEXTS) - 2)
    ]
    options.append(BeamSearchOptions(**ids, prefix=[5, 6], no_repeat_ngram_size=2, max_length=9))
    options.append(BeamSearchOptions(**ids, coverage_penalty="gnmt", beta=0.3, max_length=9))
    together = translator.translate(TEXTS, options)
    alone = [translator.translate([t], o)[0] for t, o in zip(TEXTS, options, strict=True)]
    assert values(together) == values(alone)
    assert [len(n_best) for n_best in together] == [o.n_best for o in options]
    assert all(t.tokens[:2] == ["AE", "JH"] for t in together[-2])


def unsure_model(**fields):
    """Often chooses the unknown token; one of its known tokens is spelled like it."""
    parts = text_model(**fields)
    with torch.no_grad():
        for parameter in parts.model.parameters():
            parameter.mul_(4)
        parts.model.decoder.output.bias[1] += 2.0
        parts.model.decoder.output.bias[3] -= 4.0
    target = Vocabulary([*parts.target_vocabulary.tokens[:-1], "<unk>"])
    return TextModel(parts.model, parts.source_vocabulary, target, parts.tokenization)


def test_unknown_tokens_are_replaced_by_alignment():
    parts = unsure_model()
    translator, search = Translator.of(parts, batch_size=3), {"n_best": 3, "max_length": 8}
    plain = translator.translate(TEXTS, **search)
    replaced = translator.translate(TEXTS, replace_unknown=True, **search)
    upper = translator.translate(TEXTS, replace_unknown=True, lexicon=str.upper, **search)
    table = {"a": "A", "z": "Zett"}
    mapped = translator.translate(TEXTS, replace_unknown=True, lexicon=table, **search)
    source, lengths = parts.source_vocabulary, [len(text) for text in TEXTS]
    changed, spelled = 0, 0
    for i, text in enumerate(TEXTS):
        ids = torch.tensor([source.encode(text)], dtype=torch.int64)
        options = BeamSearchOptions(bos_id=2, eos_id=3, pad_id=0, **search)
        found = parts.model.generate(ids, torch.tensor(lengths[i : i + 1]), options)
        for n in range(3):
            expected = []
            for token, position in zip(
                found.hypotheses[0][n].tokens, found.alignment[0, n].tolist(), strict=False
            ):
                if token in (0, 2, 3):
                    continue
                [word] = parts.target_vocabulary.decode([token])
                is_unknown = token == 1 and bool(text)
                changed += is_unknown
                spelled += token == len(parts.target_vocabulary) - 1
                expected.append((word, text[position] if is_unknown else None))
            assert plain[i][n].tokens == [word for word, _ in expected]
            assert replaced[i][n].tokens == [own or word for word, own in expected]
            assert replaced[i][n].text == " ".join(replaced[i][n].tokens)
            assert upper[i][n].tokens == [own.upper() if own else w for w, own in expected]
            assert mapped[i][n].tokens == [table.get(own, own) if own else w for w, own in expected]
            assert replaced[i][n].score == plain[i][n].score
    assert changed > 20 and spelled > 0


def test_model_without_attention():
    translations = Translator.of(text_model(attention="none")).translate(["abc"], max_length=4)
    assert translations[0][0].attention is None


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda t: t.translate("abc"), TypeError, "texts"),
        (lambda t: t.translate(None), TypeError, "texts"),
        (lambda t: t.translate(["a", b"b"]), TypeError, "texts"),
        (lambda t: t.translate(["a"], beam=3), TypeError, "beam"),
        (lambda t: t.translate(["a"], beam_size=0), ValueError, "beam_size"),
        (lambda t: t.translate(["a"], n_best=9), ValueError, "n_best"),
        (lambda t: t.translate(["a"], []), ValueError, "options: expected one or batch_size = 1"),
        (lambda t: t.translate(["a"], [3]), TypeError, "options: expected BeamSearchOptions"),
        (lambda t: t.translate(["a"], replace_unknown=1), TypeError, "replace_unknown"),
        (lambda t: t.translate(["a"], lexicon={}), ValueError, "lexicon: expected replace_unk"),
        (
            lambda t: t.translate(["a"], replace_unknown=True, lexicon="de"),
            TypeError,
            "lexicon: expected a mapping",
        ),
        (
            lambda t: Translator.of(text_model(attention="none")).translate(
                ["a"], replace_unknown=True
            ),
            ValueError,
            "replace_unknown: expected a model with attention",
        ),
        (lambda t: t.translate(["a"], {"beam_size": 3}), TypeError, "options"),
        (
            lambda t: t.translate(["a"], BeamSearchOptions(bos_id=1, eos_id=2, pad_id=0)),
            ValueError,
            "options",
        ),
        (lambda t: Translator.of(t.parts, batch_size=0), ValueError, "batch_size"),
        (lambda t: Translator.of(t.parts, batch_size="8"), TypeError, "batch_size"),
        (lambda t: Tokenization("letters"), ValueError, "source"),
        (lambda t: Tokenization(joiner=3), TypeError, "joiner"),
        (
            lambda t: TextModel(t.parts.model, t.parts, *list(vars(t.parts).values())[2:]),
            TypeError,
            "source_vocabulary",
        ),
        (
            lambda t: TextModel(
                t.parts.model, Vocabulary(["a"]), *list(vars(t.parts).values())[2:]
            ),
            ValueError,
            "source_vocabulary",
        ),
    ],
)
def test_wrong_arguments_are_named(call, error, message):
    with pytest.raises(error, match=message):
        call(Translator.of(text_model()))
