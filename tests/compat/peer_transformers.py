"""transformers' generate(num_beams=...)."""

from typing import Any

import torch
import transformers
from compat.model import BOS, EOS, PAD, RandomModel
from transformers import GenerationMixin, PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput, Seq2SeqLMOutput

VERSION = transformers.__version__


class _Encoder(torch.nn.Module):
    """Hands the sentences on."""

    main_input_name = "input_ids"

    def forward(self, input_ids: Any = None, **_: Any) -> BaseModelOutput:
        return BaseModelOutput(last_hidden_state=input_ids[:, :, None].double())


class _Model(PreTrainedModel, GenerationMixin):
    config_class = PretrainedConfig
    main_input_name = "input_ids"

    def __init__(self, config: PretrainedConfig, model: RandomModel) -> None:
        super().__init__(config)
        self.encoder = _Encoder()
        self.dummy = torch.nn.Parameter(torch.zeros(1))  # generate asks for a device
        self.model = model
        self.post_init()

    def _init_weights(self, module: torch.nn.Module) -> None:
        pass

    def get_encoder(self, *_: Any, **__: Any) -> torch.nn.Module:
        return self.encoder

    def prepare_inputs_for_generation(self, ids: Any, encoder_outputs: Any = None, **_: Any):
        return {"decoder_input_ids": ids, "encoder_outputs": encoder_outputs}

    def forward(
        self,
        input_ids: Any = None,
        decoder_input_ids: Any = None,
        encoder_outputs: Any = None,
        attention_mask: Any = None,
        return_dict: Any = None,
    ) -> Seq2SeqLMOutput:
        sentences = encoder_outputs[0][:, 0, 0].long()
        return Seq2SeqLMOutput(logits=self.model.log_probs(decoder_input_ids, sentences)[:, None])


def search(model: RandomModel, sentences: list[int], options: dict[str, Any]) -> list:
    eos_ids = options.get("eos_id", EOS)
    config = PretrainedConfig(
        vocab_size=model.vocab,
        is_encoder_decoder=True,
        bos_token_id=BOS,
        eos_token_id=eos_ids,
        pad_token_id=PAD,
        decoder_start_token_id=BOS,
    )
    found = _Model(config, model).generate(
        torch.tensor(sentences)[:, None],
        num_beams=options["beam_size"],
        num_return_sequences=options["n_best"],
        max_new_tokens=options["max_length"],
        min_new_tokens=max(options["min_length"] - 1, 0),
        length_penalty=options["alpha"],
        early_stopping=options["early_stopping"],
        no_repeat_ngram_size=options.get("no_repeat_ngram_size", 0),
        repetition_penalty=options.get("repetition_penalty", 1.0),
        bad_words_ids=options.get("banned") or None,
        do_sample=False,
        use_cache=False,
        return_dict_in_generate=True,
        output_scores=True,
    )
    hypotheses = [
        (_until_eos(tokens, eos_ids), score)
        for tokens, score in zip(
            found.sequences[:, 1:].tolist(), found.sequences_scores.tolist(), strict=True
        )
    ]
    n = options["n_best"]
    return [hypotheses[i * n : (i + 1) * n] for i in range(len(sentences))]


def _until_eos(tokens: list[int], eos_ids: int | list[int]) -> list[int]:
    ends = [eos_ids] if isinstance(eos_ids, int) else eos_ids
    length = next((t + 1 for t, token in enumerate(tokens) if token in ends), len(tokens))
    return tokens[:length]
