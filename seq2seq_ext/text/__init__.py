"""Text on its way to a model and back."""

from seq2seq_ext.text.tokenization import Tokenization as Tokenization
from seq2seq_ext.text.vocabulary import Vocabulary as Vocabulary
