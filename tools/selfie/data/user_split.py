"""Split by user into train, val and test: by a hash of (seed, user), which no other row can change."""

from __future__ import annotations

import hashlib

import numpy as np
import polars as pl

from selfie.common.splits import SPLITS


def stable_hash(text: pl.Series, seed: int, purpose: str) -> pl.Series:
    """64-bit hash (UInt64) of each string, of `seed` and of `purpose`; null counts as "".

    polars' own hash may change with its version, which would move users between the splits. This one reads the UTF-8
    bytes as little-endian words, zero-padded, and stirs each into the state with the finaliser of splitmix64 (Steele,
    Lea, Flood 2014; constants of Vigna's public-domain splitmix64.c), beginning with a digest of seed, purpose and
    length. It guards against accidents, not against adversaries. (xxhash would do as well, but with it every published
    seed would give other labels and splits.)
    """
    key = hashlib.blake2b(f"{purpose}:{seed}".encode(), digest_size=8).digest()
    text = text.fill_null("")
    length = text.str.len_bytes().to_numpy().astype(np.uint64)
    padded = (text + "\0" * 8).cast(pl.Binary)
    state = _stir(length ^ np.frombuffer(key, dtype="<u8"))
    for offset in range(0, int(length.max()) if len(length) else 0, 8):
        longer = np.flatnonzero(length > offset)
        part = padded if len(longer) == len(length) else padded.gather(longer)
        word = part.bin.slice(offset, 8).bin.reinterpret(dtype=pl.UInt64, endianness="little").to_numpy()
        state[longer] = _stir(state[longer] ^ word)
    return pl.Series(text.name, state, dtype=pl.UInt64)


def _stir(state: np.ndarray) -> np.ndarray:
    """Finaliser of splitmix64 on each of N uint64."""
    state = state + np.uint64(0x9E3779B97F4A7C15)
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return state ^ (state >> np.uint64(31))


def assign_split(users: pl.Series, shares: tuple[float, float, float], seed: int) -> pl.Series:
    """Split of each user: a hash of (seed, user), as a number in [0, 1), cut at the cumulated shares of SPLITS.

    It depends on nothing else, so new rows never move an old user.
    """
    place = (stable_hash(users, seed, "split").to_numpy() >> np.uint64(11)).astype(np.float64) * 2.0**-53
    edges = np.cumsum(shares) / np.sum(shares)
    names = pl.Series(SPLITS)
    return names.gather(np.searchsorted(edges[:2], place, side="right")).alias("split")
