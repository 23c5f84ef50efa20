"""CTranslate2's Generator: the random model as a Transformer decoder of its own."""

import tempfile
from typing import Any

import ctranslate2
import numpy as np
from compat.model import BOS, EOS, UNK, RandomModel
from ctranslate2.specs import TransformerDecoderModelSpec

VERSION = ctranslate2.__version__


def _spec(model: RandomModel) -> TransformerDecoderModelSpec:
    spec = TransformerDecoderModelSpec.from_config(
        num_layers=1, num_heads=1, pre_norm=True, no_final_norm=True
    )
    size = model.SIZE
    zeros, identity = np.zeros((size, size)), np.eye(size)

    def float32(*parts: np.ndarray) -> np.ndarray:
        return np.concatenate(parts).astype(np.float32)

    decoder = spec.decoder
    decoder.scale_embeddings = False
    decoder.embeddings.weight = float32(model.embedding)
    decoder.position_encodings.encodings = float32(model.positions)
    decoder.projection.weight = float32(model.output)
    decoder.projection.bias = float32(model.bias)
    layer = decoder.layer[0]
    for norm in (layer.self_attention.layer_norm, layer.ffn.layer_norm):
        norm.gamma, norm.beta = float32(np.ones(size)), float32(np.zeros(size))
    in_projection, out_projection = layer.self_attention.linear
    in_projection.weight = float32(zeros, zeros, model.values)
    in_projection.bias = float32(np.zeros(3 * size))
    out_projection.weight, out_projection.bias = float32(identity), float32(np.zeros(size))
    for linear in (layer.ffn.linear_0, layer.ffn.linear_1):
        linear.weight, linear.bias = float32(zeros), float32(np.zeros(size))
    spec.config.layer_norm_epsilon = 1e-5
    names = [str(token) for token in range(model.vocab)]
    spec.config.bos_token, spec.config.eos_token = names[BOS], names[EOS]
    spec.config.unk_token = names[UNK]
    spec.register_vocabulary(names)
    spec.validate()
    spec.optimize(quantization="float32")
    return spec


def search(model: RandomModel, sentences: list[int], options: dict[str, Any]) -> list:
    eos_ids = options.get("eos_id", EOS)
    with tempfile.TemporaryDirectory() as folder:
        _spec(model).save(folder)
        generator = ctranslate2.Generator(folder, device="cpu", intra_threads=1)
        results = generator.generate_batch(
            [[str(sentence)] for sentence in sentences],
            beam_size=options["beam_size"],
            num_hypotheses=options["n_best"],
            patience=options["patience"],
            length_penalty=options["alpha"],
            max_length=options["max_length"],
            min_length=max(options["min_length"] - 1, 0),
            repetition_penalty=options.get("repetition_penalty", 1.0),
            no_repeat_ngram_size=options.get("no_repeat_ngram_size", 0),
            suppress_sequences=[[str(t) for t in each] for each in options.get("banned", [])],
            end_token=[str(eos_ids)] if isinstance(eos_ids, int) else list(map(str, eos_ids)),
            include_prompt_in_result=False,
            return_end_token=True,
            return_scores=True,
        )
    return [
        list(zip(map(_ids, result.sequences_ids), result.scores, strict=True)) for result in results
    ]


def _ids(tokens: list[int]) -> list[int]:
    return list(tokens)
