"""transformers' generate over the eager model."""

from dataclasses import dataclass
from typing import Any

import torch
import transformers
from torch import Tensor, nn
from transformers import GenerationMixin, PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import ModelOutput, Seq2SeqLMOutput

from benchmarks.rivals.eager import EagerSeq2Seq, Source, State
from seq2seq_ext.decoding import BeamSearchOptions
from seq2seq_ext.models import Seq2Seq

NAME = f"transformers {transformers.__version__} generate"


@dataclass
class _Encoded(ModelOutput):
    """What generate repeats for every beam."""

    last_hidden_state: Tensor | None = None
    keys: Tensor | None = None
    mask: Tensor | None = None
    hidden: Tensor | None = None
    cell: Tensor | None = None
    fed: Tensor | None = None


class _Encoder(nn.Module):
    main_input_name = "input_ids"

    def __init__(self, model: EagerSeq2Seq) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: Tensor, attention_mask: Tensor, **_: Any) -> _Encoded:
        source, state = self.model.encode(input_ids, attention_mask.sum(1))
        return _Encoded(*source, *state)


class _Generator(PreTrainedModel, GenerationMixin):
    config_class = PretrainedConfig
    main_input_name = "input_ids"
    _is_stateful = True  # the cache is a State

    def __init__(self, config: PretrainedConfig, model: EagerSeq2Seq) -> None:
        super().__init__(config)
        self.model = model
        self.encoder = _Encoder(model)
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        pass

    def get_encoder(self, *_: Any, **__: Any) -> nn.Module:
        return self.encoder

    @classmethod
    def _supports_default_dynamic_cache(cls) -> bool:
        return False

    def prepare_inputs_for_generation(
        self, ids: Tensor, cache: Any = None, encoder_outputs: Any = None, **_: Any
    ) -> dict[str, Any]:
        return {
            "decoder_input_ids": ids[:, -1:],
            "cache": cache,
            "encoder_outputs": encoder_outputs,
        }

    def _reorder_cache(self, past: State, rows: Tensor) -> State:
        return past.rows(rows)

    def forward(
        self,
        input_ids: Any = None,
        attention_mask: Any = None,
        decoder_input_ids: Any = None,
        encoder_outputs: Any = None,
        cache: Any = None,
        return_dict: Any = None,
    ) -> Seq2SeqLMOutput:
        e = encoder_outputs
        state = cache
        if not isinstance(state, State):
            state = State(e.hidden, e.cell, e.fed)
        source = Source(e.last_hidden_state, e.keys, e.mask)
        logits, state = self.model.step(decoder_input_ids[:, 0], source, state)
        return Seq2SeqLMOutput(logits=logits[:, None], cache=state)


class Decoder:
    """Best hypotheses of a batch; options as far as this system has them."""

    def __init__(self, model: Seq2Seq, options: BeamSearchOptions) -> None:
        config = PretrainedConfig(
            vocab_size=model.config.target_vocabulary_size,
            hidden_size=model.config.hidden_size,
            num_hidden_layers=model.config.decoder_layers,
            is_encoder_decoder=True,
            bos_token_id=options.bos_id,
            eos_token_id=options.eos_id,
            pad_token_id=options.pad_id,
            decoder_start_token_id=options.bos_id,
        )
        self.options = options
        self.generator = _Generator(config, EagerSeq2Seq(model)).eval()

    @torch.inference_mode()
    def __call__(self, src: Tensor, lengths: Tensor) -> list[list[int]]:
        options, places = self.options, torch.arange(src.size(1), device=src.device)
        found = self.generator.generate(
            src,
            attention_mask=(places < lengths[:, None]).long(),
            num_beams=options.beam_size,
            max_new_tokens=options.max_length,
            min_new_tokens=max(options.min_length - 1, 0),
            length_penalty=0.0,
            early_stopping=True,
            do_sample=False,
            use_cache=True,
        )
        return [self._until_eos(row) for row in found[:, 1:].tolist()]

    def _until_eos(self, tokens: list[int]) -> list[int]:
        eos = self.options.eos_id
        return tokens[: tokens.index(eos) + 1] if eos in tokens else tokens
