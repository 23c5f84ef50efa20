"""fairseq's SequenceGenerator."""

import logging
from importlib.metadata import version
from typing import Any

import torch
from compat.model import BOS, RandomModel
from fairseq.data import Dictionary
from fairseq.models import FairseqDecoder, FairseqEncoder, FairseqEncoderDecoderModel
from fairseq.search import BeamSearch, DiverseBeamSearch, Search
from fairseq.sequence_generator import SequenceGenerator
from torch import Tensor

logging.disable(logging.INFO)
VERSION = version("fairseq-fixed")


class _Encoder(FairseqEncoder):
    """Hands the sentences on."""

    def forward(self, src_tokens: Tensor, **_: Any) -> dict[str, list[Tensor]]:
        return {"sentences": [src_tokens[:, 0]]}

    def forward_torchscript(self, net_input: dict[str, Tensor]) -> dict[str, list[Tensor]]:
        return self.forward(net_input["src_tokens"])

    def reorder_encoder_out(self, encoder_out: dict, new_order: Tensor) -> dict:
        return {"sentences": [encoder_out["sentences"][0][new_order]]}


class _Decoder(FairseqDecoder):
    def __init__(self, dictionary: Dictionary, model: RandomModel) -> None:
        super().__init__(dictionary)
        self.model = model

    def forward(self, tokens: Tensor, encoder_out: dict) -> tuple[Tensor, None]:
        return self.model.log_probs(tokens, encoder_out["sentences"][0])[:, None], None

    def max_positions(self) -> int:
        return RandomModel.POSITIONS


class _Model(FairseqEncoderDecoderModel):
    def max_decoder_positions(self) -> int:
        return RandomModel.POSITIONS


def _strategy(dictionary: Dictionary, options: dict[str, Any]) -> Search:
    if "beam_groups" not in options:
        return BeamSearch(dictionary)
    return DiverseBeamSearch(
        dictionary, options["beam_groups"], options["diversity_penalty"], diversity_discount=0.0
    )


def search(model: RandomModel, sentences: list[int], options: dict[str, Any]) -> list:
    dictionary = Dictionary()  # bos 0, pad 1, eos 2, unk 3
    for token in range(len(dictionary), model.vocab):
        dictionary.add_symbol(str(token))
    generator = SequenceGenerator(
        [_Model(_Encoder(dictionary), _Decoder(dictionary, model))],
        dictionary,
        search_strategy=_strategy(dictionary, options),
        beam_size=options["beam_size"],
        max_len_a=0,
        max_len_b=options["max_length"] - 1,
        min_len=max(options["min_length"] - 1, 0),
        len_penalty=options["alpha"],
        temperature=options.get("temperature", 1.0),
        no_repeat_ngram_size=options.get("no_repeat_ngram_size", 0),
    )
    sources = torch.tensor(sentences)[:, None]
    net_input = {"src_tokens": sources, "src_lengths": torch.ones(len(sentences))}
    prefix = options.get("prefix")
    found = generator.generate(
        [],
        {"net_input": net_input},
        prefix_tokens=torch.tensor([prefix] * len(sentences)) if prefix else None,
        bos_token=BOS,
    )
    return [
        [(h["tokens"].tolist(), float(h["score"])) for h in n_best[: options["n_best"]]]
        for n_best in found
    ]
