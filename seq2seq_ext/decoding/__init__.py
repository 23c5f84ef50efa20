"""Search over the outputs of any step function."""

from seq2seq_ext.decoding.beam_search import beam_search as beam_search
from seq2seq_ext.decoding.combination import ensemble as ensemble
from seq2seq_ext.decoding.combination import shallow_fusion as shallow_fusion
from seq2seq_ext.decoding.engine import BeamSearch as BeamSearch
from seq2seq_ext.decoding.greedy_search import greedy_search as greedy_search
from seq2seq_ext.decoding.options import BeamSearchOptions as BeamSearchOptions
from seq2seq_ext.decoding.progress import SearchProgress as SearchProgress
from seq2seq_ext.decoding.result import BeamSearchResult as BeamSearchResult
from seq2seq_ext.decoding.result import Hypothesis as Hypothesis
from seq2seq_ext.decoding.result import replace_unknown as replace_unknown
from seq2seq_ext.decoding.trie import TokenTrie as TokenTrie
