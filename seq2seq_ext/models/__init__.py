"""Whole models."""

from seq2seq_ext.models.attentional_decoder import Memory as Memory
from seq2seq_ext.models.config import Seq2SeqConfig as Seq2SeqConfig
from seq2seq_ext.models.generation import GenerationResult as GenerationResult
from seq2seq_ext.models.native_decoder import Decoder as Decoder
from seq2seq_ext.models.seq2seq import Seq2Seq as Seq2Seq
