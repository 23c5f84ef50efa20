"""Trains a model on pairs of texts, or of features (speech) and texts.

With --source-tokens features each source is the name of a .npy file of floats [frames, size],
from the corpus's folder on.

Start it with torchrun to train with several processes.
"""

import argparse
import sys
from pathlib import Path

from seq2seq_ext.cli.data import add_corpus, read_corpus
from seq2seq_ext.cli.parser import add_machine, add_options, chosen, field_help, set_threads
from seq2seq_ext.models import Seq2SeqConfig
from seq2seq_ext.text import Tokenization
from seq2seq_ext.text.corpus import split_by_hash
from seq2seq_ext.text.noise import Noise
from seq2seq_ext.text.tokenization import FEATURES, SOURCE_UNITS, UNITS
from seq2seq_ext.training import TrainingOptions, train

MODEL_HELP = {
    "embedding_size": "size of the token embeddings",
    "hidden_size": "size of each encoder direction and of the decoder",
    "encoder_layers": "stacked encoder layers",
    "decoder_layers": "stacked decoder layers",
    "cell": "lstm, gru or rnn",
    "attention": "additive, dot, scaled_dot, general or none",
    "attention_size": "size of additive attention (the hidden size)",
    "input_feeding": "feed each attentional vector to the next decoder step",
    "dropout": "share of the activations dropped in training",
    "tie_output": "share the output weights with the target embedding",
}
TRAINING_HELP = field_help(TrainingOptions)
NOISE_HELP = field_help(Noise)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--output", type=Path, required=True, help="folder of the model")
    add_corpus(parser, "train", "training pairs")
    add_corpus(parser, "validation", "validation pairs")
    parser.add_argument(
        "--validation-fraction",
        type=float,
        default=0.0,
        help="without validation pairs: share of the training sources to hold out, by their hash",
    )
    for side, units in (("source", SOURCE_UNITS), ("target", UNITS)):
        parser.add_argument(
            f"--{side}-tokens", choices=units, default="characters", help=f"units of the {side}"
        )
    parser.add_argument("--resume", action="store_true", help="go on from the last checkpoint")
    parser.add_argument("--overwrite", action="store_true", help="forget the folder's earlier run")
    parser.add_argument("--quiet", action="store_true", help="show nothing but errors")
    add_machine(parser)
    add_options(parser.add_argument_group("model"), Seq2SeqConfig, MODEL_HELP)
    add_options(parser.add_argument_group("training"), TrainingOptions, TRAINING_HELP)
    add_options(parser.add_argument_group("noise on the source"), Noise, NOISE_HELP, "noise-")


def run(arguments: argparse.Namespace) -> None:
    set_threads(arguments.threads)
    options = TrainingOptions(
        **chosen(arguments, TRAINING_HELP), noise=Noise(**chosen(arguments, NOISE_HELP, "noise-"))
    )
    features = arguments.source_tokens == FEATURES
    training = read_corpus(arguments, "train", features=features)
    if not training:
        raise ValueError("--train: expected a TSV file, or --train-source and --train-target")
    validation = read_corpus(arguments, "validation", features=features)
    if arguments.validation_fraction and not validation:
        if not 0 < arguments.validation_fraction < 1:
            raise ValueError(
                "--validation-fraction: expected a share in 0..1, "
                f"got {arguments.validation_fraction}"
            )
        share = arguments.validation_fraction
        training, validation = split_by_hash(training, (1 - share, share))
    result = train(
        arguments.output,
        training,
        validation,
        tokenization=Tokenization(arguments.source_tokens, arguments.target_tokens),
        options=options,
        model=chosen(arguments, MODEL_HELP),
        resume=arguments.resume,
        overwrite=arguments.overwrite,
        device=arguments.device,
        quiet=arguments.quiet,
    )
    if not arguments.quiet:
        best = f"; best validation loss {result.best_loss:.4f} at step {result.best_step}"
        print(
            f"{result.steps} steps, {result.epochs:.1f} epochs, {result.seconds:.1f} s"
            f"{best if validation else ''}; the model is in {arguments.output}",
            file=sys.stderr,
        )
