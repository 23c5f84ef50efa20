"""Seq2Seq against the plain PyTorch reference, and the promises about its search."""

import itertools

import pytest
import torch
from seq2seq_cases import OPTIONS, SIZES, VARIANTS, data, make, name
from torch.nn.functional import cross_entropy

from seq2seq_ext.decoding import BeamSearchOptions
from seq2seq_ext.models import Memory, Seq2Seq, Seq2SeqConfig
from seq2seq_ext.reference import seq2seq as reference


@pytest.fixture(autouse=True)
def one_thread():
    """The models are too small to share among threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def reference_loss(model, src, src_lengths, tgt, tgt_lengths, label_smoothing=0.0):
    weights = dict(model.named_parameters())
    logits = reference.forward(model.config, weights, src, src_lengths, tgt)
    targets = tgt[:, 1:].clone()
    targets[torch.arange(targets.size(1)) >= (tgt_lengths - 1)[:, None]] = -100
    return cross_entropy(
        logits[:, :-1].flatten(0, 1), targets.flatten(), label_smoothing=label_smoothing
    )


def fields_of(result):
    return result.tokens, result.lengths, result.scores, result.log_probs


def sentence(result, row, width):
    """What generate says of one source, without the padding that others brought."""
    lengths = result.lengths[row]
    longest = int(lengths.max())
    parts = [lengths, result.scores[row], result.log_probs[row], result.tokens[row][:, :longest]]
    if result.attention is not None:
        parts.append(result.attention[row][:, :longest, :width])
    return parts


# --- forward and backward


@pytest.mark.parametrize("sizes", SIZES, ids=name)
@pytest.mark.parametrize("variant", VARIANTS, ids=name)
def test_forward_and_gradients_equal_the_reference(variant, sizes):
    model = make(**variant, **sizes)
    src, src_lengths, tgt, tgt_lengths = data(model)
    expected = reference.forward(model.config, model.state_dict(), src, src_lengths, tgt)
    torch.testing.assert_close(model(src, src_lengths, tgt), expected, rtol=1e-9, atol=1e-10)

    parameters = dict(model.named_parameters())
    loss = model.loss(src, src_lengths, tgt, tgt_lengths, label_smoothing=0.1)
    expected = reference_loss(model, src, src_lengths, tgt, tgt_lengths, 0.1)
    torch.testing.assert_close(loss, expected, rtol=1e-9, atol=0)
    gradients = torch.autograd.grad(loss, parameters.values())
    references = torch.autograd.grad(expected, parameters.values())
    for key, ours, theirs in zip(parameters, gradients, references, strict=True):
        # An embedding gives its padding row no gradient; the tied output layer does.
        if key.endswith("embedding.weight") and not (model.config.tie_output and "decoder" in key):
            ours, theirs = ours[1:], theirs[1:]
        torch.testing.assert_close(ours, theirs, rtol=1e-8, atol=1e-10, msg=lambda m, k=key: k + m)


@pytest.mark.parametrize("variant", VARIANTS[::3], ids=name)
def test_float32_is_as_exact_as_torch(variant):
    double = make(**variant)
    single = make(dtype=torch.float32, **variant)
    src, src_lengths, tgt, _ = data(single)
    exact = reference.forward(double.config, double.state_dict(), src, src_lengths, tgt)
    torchs = reference.forward(single.config, single.state_dict(), src, src_lengths, tgt)
    error = (single(src, src_lengths, tgt) - exact).abs().max()
    assert error <= 2 * (torchs - exact).abs().max() + 1e-6


@pytest.mark.parametrize("feeding", [True, False])
def test_label_smoothing_is_cross_entropys(feeding):
    model = make(input_feeding=feeding)
    batch = data(model)
    for smoothing in (0.0, 0.3, 1.0):
        torch.testing.assert_close(
            model.loss(*batch, label_smoothing=smoothing), reference_loss(model, *batch, smoothing)
        )


@pytest.mark.parametrize("feeding", [True, False])
def test_permuted_rows_and_appended_padding_change_nothing(feeding):
    model = make(dtype=torch.float32, input_feeding=feeding)
    src, src_lengths, tgt, tgt_lengths = data(model)
    logits = model(src, src_lengths, tgt)
    order = torch.tensor([2, 0, 3, 1])
    assert torch.equal(model(src[order], src_lengths[order], tgt[order]), logits[order])
    wide = torch.nn.functional.pad(src, (0, 3), value=9)
    assert torch.equal(model(wide, src_lengths, tgt), logits)
    longer = torch.nn.functional.pad(tgt, (0, 2), value=9)
    torch.testing.assert_close(
        model.loss(wide, src_lengths, longer, tgt_lengths),
        model.loss(src, src_lengths, tgt, tgt_lengths),
    )


def test_dropout_only_in_training():
    model = make(dropout=0.5, encoder_layers=2, decoder_layers=2)
    batch = data(model)
    torch.manual_seed(0)
    first = model.loss(*batch)
    assert first != model.loss(*batch)
    torch.manual_seed(0)
    assert first == model.loss(*batch)
    torch.testing.assert_close(model.eval().loss(*batch), reference_loss(model, *batch))
    found = model.generate(*batch[:2], OPTIONS)
    model.train()
    assert torch.equal(model.generate(*batch[:2], OPTIONS).log_probs, found.log_probs)
    assert model.training


def test_source_of_no_columns_is_a_batch_of_empty_sources():
    model = make()
    none = torch.zeros(2, 0, dtype=torch.int64)
    lengths = torch.zeros(2, dtype=torch.int64)
    tgt = torch.tensor([[2, 5], [2, 6]])
    padded = model(torch.full((2, 3), 5), lengths, tgt)
    assert torch.equal(model(none, lengths, tgt), padded)


# --- search


@pytest.mark.parametrize("sizes", [SIZES[0], SIZES[1], SIZES[2], SIZES[4]], ids=name)
@pytest.mark.parametrize("variant", VARIANTS, ids=name)
def test_generate_equals_the_reference(variant, sizes):
    model = make(seed=4, **variant, **sizes)
    src, src_lengths, _, _ = data(model)
    found = model.generate(src, src_lengths, OPTIONS)
    expected = reference.generate(model.config, model.state_dict(), src, src_lengths, OPTIONS)
    assert torch.equal(found.tokens, expected[0])
    assert torch.equal(found.lengths, expected[1])
    torch.testing.assert_close(found.scores, expected[2], rtol=1e-8, atol=1e-9)
    torch.testing.assert_close(found.log_probs, expected[3], rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("variant", VARIANTS, ids=name)
def test_teacher_forcing_tells_the_same_log_probs_and_attention(variant):
    model = make(seed=5, decoder_layers=2, **variant)
    src, src_lengths, _, _ = data(model)
    options = BeamSearchOptions(bos_id=2, eos_id=3, pad_id=0, beam_size=16, n_best=5, max_length=8)
    found = model.generate(src, src_lengths, options)
    assert (found.lengths.unique().numel()) > 1
    for b, rank in itertools.product(range(len(src)), range(5)):
        length = int(found.lengths[b, rank])
        tokens = found.tokens[b, rank, :length]
        memory = model.encode(src[b : b + 1], src_lengths[b : b + 1])
        state, log_prob, previous = memory.state, 0.0, 2
        for t, token in enumerate(tokens.tolist()):
            logits, state, weights = model.step(torch.tensor([previous]), state, memory)
            log_prob += logits.log_softmax(1)[0, token].item()
            previous = token
            if weights is not None:
                torch.testing.assert_close(found.attention[b, rank, t], weights[0].detach())
        assert log_prob == pytest.approx(found.log_probs[b, rank].item(), rel=1e-9, abs=1e-9)
        if variant["attention"] == "none":
            assert found.attention is None
        else:
            assert found.attention.shape == (*found.tokens.shape, src.size(1))
            rows = found.attention[b, rank].sum(1)
            full = torch.zeros_like(rows)
            full[:length] = float(src_lengths[b] > 0)
            torch.testing.assert_close(rows, full)


def test_attention_where_the_beam_exceeds_the_vocabulary():
    model = make(target_vocabulary_size=5)
    src, src_lengths, _, _ = data(model)
    options = BeamSearchOptions(bos_id=2, eos_id=3, pad_id=0, beam_size=9, n_best=9, max_length=2)
    found = model.generate(src, src_lengths, options)
    real = torch.arange(found.tokens.size(2)) < found.lengths[..., None]
    with_source = (src_lengths > 0)[:, None, None]
    torch.testing.assert_close(found.attention.sum(3), (real & with_source).double())


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"cell": "gru", "attention": "scaled_dot", "input_feeding": False},
        {"cell": "rnn", "attention": "general", "tie_output": True},
        {"attention": "none"},
        {"source_vocabulary_size": None, "source_feature_size": 6},
        {"hidden_size": 70, "embedding_size": 33, "decoder_layers": 2},
    ],
    ids=name,
)
def test_a_source_gets_the_same_bits_in_any_batch(fields):
    model = make(dtype=torch.float32, seed=6, **fields).eval()
    lengths = (5, 0, 7, 1, 3, 7, 2, 4, 6, 7, 5)
    src, src_lengths, _, _ = data(model, lengths)
    torch.set_num_threads(2)
    together = model.generate(src, src_lengths, OPTIONS)
    torch.set_num_threads(1)
    single = model.generate(src, src_lengths, OPTIONS)
    for row, length in enumerate(lengths):
        width = max(length, 1)
        alone = model.generate(src[row : row + 1, :width], src_lengths[row : row + 1], OPTIONS)
        for a, b, c in zip(
            sentence(alone, 0, width),
            sentence(together, row, width),
            sentence(single, row, width),
            strict=True,
        ):
            assert torch.equal(a, b) and torch.equal(a, c)


def test_memory_is_stored_once_a_source(monkeypatch):
    model = make()
    src, src_lengths, _, _ = data(model)
    seen = []
    attend = model.decoder.attention.forward

    def spy(query, memory, *rest):
        seen.append((query.shape[:2], memory.shape[0]))
        return attend(query, memory, *rest)

    monkeypatch.setattr(model.decoder.attention, "forward", spy)
    model.generate(src, src_lengths, OPTIONS)
    assert set(seen) == {((4, 4), 4)}


def test_every_isa(isa):
    model = make(hidden_size=21)
    src, src_lengths, _, _ = data(model)
    expected = reference.generate(model.config, model.state_dict(), src, src_lengths, OPTIONS)
    torch.testing.assert_close(fields_of(model.generate(src, src_lengths, OPTIONS)), expected)


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("fields", [{"input_feeding": True}, {"input_feeding": False}], ids=name)
def test_a_training_step_has_the_same_bits_with_any_number_of_threads(fields, precision, threads):
    sizes = {"embedding_size": 70, "hidden_size": 130, "attention_size": 90, "decoder_layers": 2}
    model = make(torch.float32, encoder_layers=2, target_vocabulary_size=300, **sizes, **fields)
    batch = data(model, lengths=tuple(range(24)), width=23)
    steps = []
    for count in (1, 2, 3):
        torch.set_num_threads(count)
        model.zero_grad()
        with torch.autocast("cpu", precision, enabled=precision != torch.float32):
            loss = model.loss(*batch, label_smoothing=0.1)
        loss.backward()
        steps.append([loss, *(p.grad for p in model.parameters())])
    for step in steps[1:]:
        assert all(map(torch.equal, step, steps[0]))


@pytest.mark.not_emulated("it trains, which takes minutes there")
def test_learns_to_reverse():
    torch.manual_seed(0)
    model = Seq2Seq(
        Seq2SeqConfig(
            source_vocabulary_size=9, target_vocabulary_size=9, embedding_size=16, hidden_size=32
        )
    )
    src = torch.tensor([p for p in itertools.product(range(4, 9), repeat=3)])
    src_lengths = torch.full((len(src),), 3)
    ends = torch.ones(len(src), 1, dtype=torch.int64)
    tgt = torch.cat((2 * ends, src.flip(1), 3 * ends), dim=1)
    adam = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(60):
        adam.zero_grad()
        model.loss(src, src_lengths, tgt, torch.full((len(src),), 5)).backward()
        adam.step()
    options = BeamSearchOptions(bos_id=2, eos_id=3, pad_id=0, beam_size=3, max_length=8)
    found = model.generate(src, src_lengths, options)
    assert torch.equal(found.tokens[:, 0], tgt[:, 1:])


# --- tracing


class Step(torch.nn.Module):
    """One decoder step on plain tensors, as an exporter sees it."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, tokens, state, memory, keys, lengths):
        return self.model.step(tokens, state, Memory(memory, keys, lengths, state))


def step_arguments(model):
    src, src_lengths, _, _ = data(model)
    with torch.no_grad():
        memory = model.encode(src, src_lengths)
    tokens = torch.full((len(src),), 2)
    return tokens, memory.state, memory.memory, memory.projected, memory.lengths


@pytest.mark.not_emulated("torch.compile takes no dispatch mode")
@pytest.mark.parametrize("variant", [VARIANTS[0], VARIANTS[13]], ids=name)
def test_compiled_step_is_one_graph(variant):
    step = Step(make(dtype=torch.float32, **variant).eval())
    arguments = step_arguments(step.model)
    with torch.no_grad():
        compiled = torch.compile(step, fullgraph=True, backend="aot_eager")
        torch.testing.assert_close(compiled(*arguments), step(*arguments))


@pytest.mark.parametrize("variant", [VARIANTS[0], VARIANTS[13]], ids=name)
def test_exported_step(variant):
    step = Step(make(dtype=torch.float32, **variant).eval())
    arguments = step_arguments(step.model)
    with torch.no_grad():
        exported = torch.export.export(step, arguments).module()
        torch.testing.assert_close(exported(*arguments), step(*arguments))
