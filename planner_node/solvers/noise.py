"""Noise for action sequences, correlated in time: white noise makes an arm tremble and explores little."""

from __future__ import annotations

import numpy as np

from world_model.protocol import F32


def correlated(rng: np.random.Generator, shape: tuple[int, ...], correlation: float) -> F32:
    """Normal noise of ``shape`` (N, H, A) and unit variance; ``correlation`` in [0, 1) is that from one step to the next."""
    noise = rng.standard_normal(shape).astype(np.float32)
    for step in range(1, shape[1]):
        noise[:, step] = correlation * noise[:, step - 1] + np.sqrt(1 - correlation**2) * noise[:, step]
    return noise


def coloured(rng: np.random.Generator, shape: tuple[int, int, int], exponent: float) -> F32:
    """Normal noise of ``shape`` (N, H, A) and unit variance whose power falls with frequency as ``1 / f^exponent``.

    0 is white, 1 pink, 2 red. Drawn in the frequency domain (Timmer and König 1995), as iCEM does it (Pinneri et al. 2020, arXiv 2008.06389); below
    ``1 / H`` the power is that at ``1 / H``.
    """
    count, horizon, dim = shape
    if horizon == 1:
        return rng.standard_normal((count, 1, dim)).astype(np.float32)
    frequencies = np.fft.rfftfreq(horizon)
    frequencies[0] = frequencies[1]
    scale = frequencies ** (-exponent / 2)
    real, imaginary = rng.standard_normal((2, count, dim, len(scale))) * scale
    # A real signal has no phase at frequency 0, and for an even horizon none at the highest: all of their power is in the real part.
    alone = [0, len(scale) - 1] if horizon % 2 == 0 else [0]
    real[..., alone] *= np.sqrt(2.0)
    imaginary[..., alone] = 0.0
    counts = np.full(len(scale), 4.0)
    counts[alone] = 2.0
    deviation = np.sqrt((counts * scale**2).sum()) / horizon
    noise = np.fft.irfft(real + 1j * imaginary, n=horizon, axis=-1) / deviation
    return np.ascontiguousarray(noise.swapaxes(1, 2)).astype(np.float32)
