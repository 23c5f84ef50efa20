"""AdditiveAttention and DotAttention: formulas, compilation, autocast, errors."""

import pytest
import torch

from seq2seq_ext.nn.attention import AdditiveAttention, DotAttention


def modules() -> dict[str, torch.nn.Module]:
    return {
        "additive": AdditiveAttention(5, 6, 7),
        "general": DotAttention(5, 6, "general"),
        "dot": DotAttention(6, 6, "dot"),
        "scaled_dot": DotAttention(6, 6, "scaled_dot"),
    }


@pytest.mark.parametrize("name", modules())
def test_module(name) -> None:
    module = modules()[name]
    query, memory = torch.randn(2, 3, module.query_size), torch.randn(2, 4, 6)
    lengths = torch.tensor([4, 2])
    context, weights = module(query, memory, lengths)
    assert context.shape == (2, 3, 6) and weights.shape == (2, 3, 4)
    assert torch.equal(module(query, memory, lengths, module.project_memory(memory))[0], context)
    for t in range(3):
        one_context, one_weights = module(query[:, t], memory, lengths)
        assert torch.equal(one_context, context[:, t]) and torch.equal(one_weights, weights[:, t])
    with torch.no_grad():
        keys = module.project_memory(memory)
        if name == "additive":
            hidden = torch.tanh(module.query_projection(query)[:, :, None] + keys[:, None])
            scores = hidden @ module.v
        else:
            scores = query @ keys.transpose(1, 2) / (6**0.5 if name == "scaled_dot" else 1)
        scores[1, :, 2:] = -torch.inf
    torch.testing.assert_close(weights, scores.softmax(-1))
    torch.testing.assert_close(context, weights @ memory)


def test_module_parameters_and_repr() -> None:
    names = {name: [n for n, _ in m.named_parameters()] for name, m in modules().items()}
    assert names == {
        "additive": ["v", "query_projection.weight", "memory_projection.weight"],
        "general": ["memory_projection.weight"],
        "dot": [],
        "scaled_dot": [],
    }
    assert repr(modules()["dot"]) == "DotAttention(6, 6, score='dot')"
    assert "5, 6, 7" in repr(modules()["additive"])


@pytest.mark.not_emulated("torch.compile takes no dispatch mode")
@pytest.mark.parametrize("name", ["additive", "general"])
def test_compile_and_export(name) -> None:
    module = modules()[name]
    arguments = torch.randn(2, 3, 5), torch.randn(2, 4, 6), torch.tensor([4, 2])
    expected = module(*arguments)
    torch._dynamo.reset()
    compiled = torch.compile(module, fullgraph=True, backend="aot_eager")
    actual = compiled(*arguments)
    torch.testing.assert_close(actual, expected)
    gradients = [
        torch.autograd.grad(out[0].sum() + out[1].square().sum(), list(module.parameters()))
        for out in (actual, expected)
    ]
    torch.testing.assert_close(*gradients)
    exported = torch.export.export(module, arguments).module()
    torch.testing.assert_close(exported(*arguments), expected)


@pytest.mark.not_emulated("weights are rounded as they are packed, for the CPU")
@pytest.mark.parametrize("name", ["additive", "general"])
def test_autocast(name) -> None:
    module = modules()[name]
    query, memory = torch.randn(2, 5), torch.randn(2, 4, 6)
    with torch.autocast("cpu", torch.bfloat16):
        context, weights = module(query, memory)
    assert context.dtype == weights.dtype == torch.float32
    torch.testing.assert_close(context, module(query, memory)[0], atol=0.05, rtol=0.05)
    (context.sum() + weights.square().sum()).backward()
    assert all(p.grad.isfinite().all() for p in module.parameters())


@pytest.mark.parametrize(
    ("arguments", "error", "name"),
    [
        pytest.param(lambda q, m: (q[..., 1:], m), ValueError, "query", id="query features"),
        pytest.param(lambda q, m: (q[0, 0], m), ValueError, "query", id="query dims"),
        pytest.param(lambda q, m: (q.double(), m), TypeError, "query", id="query dtype"),
        pytest.param(lambda q, m: (q.long(), m), TypeError, "query", id="query integers"),
        pytest.param(lambda q, m: (q[1:], m), ValueError, "query", id="query batch"),
        pytest.param(lambda q, m: (q.tolist(), m), TypeError, "query", id="query list"),
        pytest.param(lambda q, m: (q, m[..., 1:]), ValueError, "memory", id="memory features"),
        pytest.param(lambda q, m: (q, m[0]), ValueError, "memory", id="memory dims"),
        pytest.param(lambda q, m: (q, m.double()), TypeError, "memory", id="memory dtype"),
        pytest.param(lambda q, m: (q, m, [1, 2]), TypeError, "memory_lengths", id="list"),
        pytest.param(
            lambda q, m: (q, m, torch.tensor([9, 1])), ValueError, "memory_lengths", id="long"
        ),
        pytest.param(
            lambda q, m: (q, m, None, m), ValueError, "projected_memory", id="unprojected"
        ),
        pytest.param(
            lambda q, m: (q, m, None, q), ValueError, "projected_memory", id="projected source"
        ),
    ],
)
@pytest.mark.parametrize("module", [AdditiveAttention(5, 6, 5), DotAttention(5, 6, "general")])
def test_bad_module_input_is_named(module, arguments, error, name) -> None:
    with pytest.raises(error, match=name):
        module(*arguments(torch.randn(2, 3, 5), torch.randn(2, 4, 6)))


def test_bad_constructor_arguments_are_named() -> None:
    with pytest.raises(ValueError, match=r"score: expected one of .* got 'cosine'"):
        DotAttention(4, 4, "cosine")
    for score in ("dot", "scaled_dot"):
        with pytest.raises(ValueError, match="memory_size: expected query_size 4"):
            DotAttention(4, 5, score)


def test_bad_sizes_are_named() -> None:
    with pytest.raises(TypeError, match=r"query_size: expected an int, got 1\.5"):
        DotAttention(1.5, 4)
    with pytest.raises(ValueError, match="memory_size: expected at least 1, got 0"):
        AdditiveAttention(4, 0, 3)
    with pytest.raises(ValueError, match="attention_size: expected at least 1, got -3"):
        AdditiveAttention(4, 4, -3)


@pytest.mark.parametrize("poison", [float("nan"), float("inf")])
@pytest.mark.parametrize("name", modules())
def test_padding_reaches_no_gradient(name, poison) -> None:
    module = modules()[name]
    query, memory = torch.randn(2, 3, module.query_size), torch.randn(2, 4, 6)
    lengths = torch.tensor([4, 2])

    def gradients(padding):
        x, m = query.clone().requires_grad_(), memory.clone()
        m[1, 2:] = padding
        m.requires_grad_()
        loss = module(x, m, lengths)[0].square().sum()
        return torch.autograd.grad(loss, [x, m, *module.parameters()])

    for dirty, clean in zip(gradients(poison), gradients(0.0), strict=True):
        assert torch.equal(dirty, clean)
