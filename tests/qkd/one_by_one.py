"""BB84 pulse by pulse and photon by photon, written from the physics alone: shares no formula with the package.

Numbers of photons are drawn, each photon is lost, kept by Eve, or lands on a detector; nothing is tabulated. Slow.
"""

from dataclasses import dataclass

import numpy as np

from qfedfm.qkd.eavesdroppers import BeamSplitting, InterceptResend, PhotonNumberSplitting
from qfedfm.qkd.link import SinglePhotons


@dataclass
class Pulses:
    intensity: np.ndarray
    alice_basis: np.ndarray
    alice_bit: np.ndarray
    bob_basis: np.ndarray
    mask: np.ndarray
    photons: np.ndarray
    known: np.ndarray


def send(link, pulses, generator, eve=None):
    d, single = link.detectors, isinstance(link.source, SinglePhotons)
    mu, p = ((1.0,), (1.0,)) if single else (link.source.intensities, link.source.probabilities)
    intensity = generator.choice(len(mu), size=pulses, p=p)
    a, b = (generator.random((2, pulses)) > link.basis_probability).astype(int)
    x = generator.integers(0, 2, pulses)
    photons = np.ones(pulses, int) if single else generator.poisson(np.array(mu)[intensity])
    fibre = link.channel.transmittance()
    known = np.zeros(pulses, bool)
    state = (x + a / 2) * np.pi / 2  # polarisation: 0, 90 degrees, or 45, 135

    if eve is None:
        arriving = generator.binomial(photons, fibre)
    elif isinstance(eve, InterceptResend):
        arriving = generator.binomial(photons, fibre)
        hers = generator.integers(0, 2, pulses) / 2 if eve.basis == "random" else np.full(pulses, 0.25)
        seen = generator.random(pulses) > np.cos(state - hers * np.pi / 2) ** 2
        caught = (generator.random(pulses) < eve.fraction) & (photons > 0)
        state = np.where(caught, (seen + hers) * np.pi / 2, state)
        known = caught & (2 * hers == a)
    elif isinstance(eve, BeamSplitting):
        arriving = generator.binomial(photons, fibre)
        known = photons > arriving
    elif isinstance(eve, PhotonNumberSplitting):
        # only for loss so high that she stops all single photons; she lets through what makes up for the usual light
        (mu,) = mu
        usual = 1 - np.exp(-mu * fibre * d.efficiency)
        left = 1 - d.efficiency
        all_of_several = 1 - np.exp(-mu) * (1 + mu) - np.exp(-mu) * ((np.exp(mu * left) - 1) / left - mu)
        known = (photons >= 2) & (generator.random(pulses) < usual / all_of_several)
        arriving = np.where(known, photons - 1, 0)

    detected = generator.binomial(arriving, d.efficiency)
    bob_angle = b * np.pi / 4
    to_one = generator.binomial(detected, np.sin(state - bob_angle) ** 2)
    to_zero = detected - to_one
    flipped = generator.random(pulses) < d.misalignment
    to_one, to_zero = np.where(flipped, to_zero, to_one), np.where(flipped, to_one, to_zero)
    dark_zero, dark_one = generator.random((2, pulses)) < d.dark_count
    mask = ((to_zero > 0) | dark_zero) + 2 * ((to_one > 0) | dark_one)
    return Pulses(intensity, a, x, b, mask, np.minimum(photons, 2), known)


def rest(gates, masks, follows, blind):
    """Dead time and after-pulses with one loop over the gates: the (gate, mask) of what is really seen."""
    light, after, ready, seen = dict(zip(gates, masks, strict=True)), {}, 0, []
    follow = dict(zip(gates, follows, strict=True))
    for gate in range(max(gates, default=0) + 2 * blind + 2):
        if gate in after:
            seen.append((gate, after[gate] | light.get(gate, 0)))
            ready = gate + blind
        elif gate in light and gate >= ready:
            seen.append((gate, light[gate]))
            ready = gate + blind
            if follow[gate]:
                after[gate + blind] = light[gate]
    return seen
