"""Training: options, the loop, checkpoints, several processes."""

from seq2seq_ext.training.checkpoint import Checkpoint as Checkpoint
from seq2seq_ext.training.checkpoint import CheckpointError as CheckpointError
from seq2seq_ext.training.distributed import World as World
from seq2seq_ext.training.interrupt import TrainingInterrupted as TrainingInterrupted
from seq2seq_ext.training.options import TrainingOptions as TrainingOptions
from seq2seq_ext.training.run import train as train
from seq2seq_ext.training.schedule import learning_rate as learning_rate
from seq2seq_ext.training.trainer import Trainer as Trainer
from seq2seq_ext.training.trainer import TrainingError as TrainingError
from seq2seq_ext.training.trainer import TrainingResult as TrainingResult
