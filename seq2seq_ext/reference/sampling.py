"""Random numbers that are a function of their place. Philox4x32-10 (Salmon et al. 2011)."""

import math

_LOW = 0xFFFFFFFF


def philox(counter: tuple[int, int, int, int], seed: int) -> tuple[int, int, int, int]:
    """Four random words of 32 bits."""
    c0, c1, c2, c3 = counter
    key_low, key_high = seed & _LOW, seed >> 32
    for _ in range(10):
        even, odd = 0xD2511F53 * c0, 0xCD9E8D57 * c2
        c0, c1, c2, c3 = (
            (odd >> 32) ^ c1 ^ key_low,
            odd & _LOW,
            (even >> 32) ^ c3 ^ key_high,
            even & _LOW,
        )
        key_low, key_high = (key_low + 0x9E3779B9) & _LOW, (key_high + 0xBB67AE85) & _LOW
    return c0, c1, c2, c3


def gumbel(seed: int, step: int, lane: int, token: int) -> float:
    """A standard Gumbel number for a token of a beam at a step."""
    words = philox((token // 2, step, lane, 0), seed)
    low, high = words[2 * (token % 2) :][:2]
    uniform = ((high << 32 | low) >> 12) + 0.5
    return -math.log(-math.log(uniform * 2.0**-52))


def conditioned(perturbed: float, largest: float, parent: float) -> float:
    """A child's key given that the largest of its siblings' is its parent's (Kool et al. 2019)."""
    if perturbed == largest:
        return parent
    v = parent - perturbed + math.log1p(-math.exp(perturbed - largest))
    return parent - max(0.0, v) - math.log1p(math.exp(-abs(v)))
