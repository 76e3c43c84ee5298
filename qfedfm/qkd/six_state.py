"""The six-state protocol: BB84 with a third basis (Bruss 1998, doi:10.1103/PhysRevLett.81.3018).

Three bases leave Eve no room but the depolarising channel. She then holds, per sifted bit of single photons,
I_E = Q + (1 - Q) h((1 - 3Q/2) / (1 - Q)) (Scarani et al. 2009, doi:10.1103/RevModPhys.81.1301, appendix A), and
r = 1 - I_E - f h(Q); with f = 1 it ends at Q = .1262 against BB84's .1100.
"""

from ..declaration import declared
from .entropy import binary_entropy
from .link import Link
from .protocol import Inefficiency, LinkProtocol, Rate, make_rate
from .single_photon import single_photon_clicks


@declared
class SixState(LinkProtocol):
    """Six states from an ideal single-photon source; of the link's source only the rate is used.

    The link's basis probability p is that of the key basis, the two others have (1 - p) / 2 each: p^2 + (1 - p)^2 / 2
    of the pulses are sifted, and without limit on the block all of them make key.
    """

    f_ec: Inefficiency = 1.16

    def steady(self, link: Link) -> Rate:
        """Return sifting x Y1 [1 - I_E(e1) - f h(e1)]."""
        gain, qber = single_photon_clicks(link)
        p = link.basis_probability
        bits = gain * six_state_fraction(qber, self.f_ec)
        return make_rate(link, gain, p**2 + (1 - p) ** 2 / 2, gain, qber, bits, (gain, qber))


def six_state_fraction(qber: float, f_ec: float = 1.0) -> float:
    """Return 1 - I_E(Q) - f h(Q), bits per sifted bit; may be negative. Beyond Q = 1/2 it is that of 1/2."""
    q = min(qber, 0.5)
    eve = q + (1 - q) * float(binary_entropy((1 - 1.5 * q) / (1 - q)))
    return 1 - eve - f_ec * float(binary_entropy(q))
