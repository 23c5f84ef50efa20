"""JoeyNMT's beam_search."""

from importlib.metadata import version
from types import SimpleNamespace
from typing import Any

import torch
from compat.model import BOS, EOS, PAD, UNK, RandomModel
from joeynmt.decoders import RecurrentDecoder
from joeynmt.search import beam_search
from torch import Tensor

VERSION = version("joeynmt")


class _Decoder(RecurrentDecoder):
    """The state of the random model as one hidden vector."""

    def __init__(self, model: RandomModel) -> None:
        torch.nn.Module.__init__(self)
        self.model = model

    @property
    def output_size(self) -> int:
        return self.model.vocab

    def _init_hidden(self, encoder_final: Tensor) -> Tensor:
        return _pack(self.model.state(encoder_final.tolist(), 1))[None]


class _Model(SimpleNamespace):
    def __call__(self, *, trg_input: Tensor, decoder_hidden: Tensor, **_: Any) -> tuple:
        logits, state = self.decoder.model.step(trg_input[:, 0], _unpack(decoder_hidden[:, 0]))
        return logits[:, None], _pack(state)[:, None], None, None


def _pack(state: dict[str, Tensor]) -> Tensor:
    return torch.cat((state["first"][:, None], state["length"][:, None], state["total"]), dim=1)


def _unpack(hidden: Tensor) -> dict[str, Tensor]:
    return {
        "first": hidden[:, 0].long(),
        "length": hidden[:, 1].long(),
        "total": hidden[:, 2:],
    }


def search(model: RandomModel, sentences: list[int], options: dict[str, Any]) -> list:
    joey = _Model(
        decoder=_Decoder(model),
        bos_index=BOS,
        eos_index=EOS,
        pad_index=PAD,
        unk_index=UNK,
        sep_index=None,
        specials=[],
        lang_tags=[],
    )
    batch, n = len(sentences), options["n_best"]
    tokens, scores, _ = beam_search(
        model=joey,
        beam_size=options["beam_size"],
        encoder_output=torch.zeros(batch, 1, 1, dtype=torch.float64),
        encoder_hidden=torch.tensor(sentences),
        src_mask=torch.ones(batch, 1, 1, dtype=torch.bool),
        max_output_length=options["max_length"],
        alpha=options["alpha"],
        n_best=n,
        return_prob="hyp",
        no_repeat_ngram_size=options.get("no_repeat_ngram_size", -1) or -1,
        repetition_penalty=options.get("repetition_penalty", -1),
        min_output_length=max(options["min_length"] - 1, 0),
    )
    hypotheses = [
        (_without_padding(row), score)
        for row, score in zip(tokens.tolist(), scores[:, 0].tolist(), strict=True)
    ]
    return [hypotheses[i * n : (i + 1) * n] for i in range(batch)]


def _without_padding(tokens: list[int]) -> list[int]:
    """PAD is never chosen, so all of it is padding."""
    return [token for token in tokens if token != PAD]
