"""Recurrent sequence-to-sequence models for PyTorch, fast and exact."""

from seq2seq_ext import _load as _load
from seq2seq_ext.decoding import BeamSearch as BeamSearch
from seq2seq_ext.decoding import BeamSearchOptions as BeamSearchOptions
from seq2seq_ext.decoding import BeamSearchResult as BeamSearchResult
from seq2seq_ext.decoding import beam_search as beam_search
from seq2seq_ext.decoding import greedy_search as greedy_search
from seq2seq_ext.info import info as info
from seq2seq_ext.model_folder import TextModel as TextModel
from seq2seq_ext.model_folder import load_model as load_model
from seq2seq_ext.model_folder import save_model as save_model
from seq2seq_ext.models import Decoder as Decoder
from seq2seq_ext.models import Seq2Seq as Seq2Seq
from seq2seq_ext.models import Seq2SeqConfig as Seq2SeqConfig
from seq2seq_ext.nn import GRU as GRU
from seq2seq_ext.nn import LSTM as LSTM
from seq2seq_ext.nn import RNN as RNN
from seq2seq_ext.nn import AdditiveAttention as AdditiveAttention
from seq2seq_ext.nn import DotAttention as DotAttention
from seq2seq_ext.nn import GRUCell as GRUCell
from seq2seq_ext.nn import LSTMCell as LSTMCell
from seq2seq_ext.nn import RNNCell as RNNCell
from seq2seq_ext.nn import accelerate as accelerate
from seq2seq_ext.ops import backend as backend
from seq2seq_ext.text import Vocabulary as Vocabulary
from seq2seq_ext.translator import Translator as Translator

__version__ = "0.1.0"
