"""BB84 with an ideal single-photon source (Bennett and Brassard 1984, doi:10.1016/j.tcs.2014.05.025).

With two even bases the phase error equals the bit error, so that r = 1 - h(Q) - f h(Q) for each sifted bit (Shor and
Preskill 2000, doi:10.1103/PhysRevLett.85.441); with f = 1 it ends at Q = .1100. A single-photon source needs no decoys.
"""

from ..declaration import declared
from .link import Link
from .protocol import Inefficiency, LinkProtocol, Rate, make_rate, secret_fraction, sifted


@declared
class SinglePhotonBB84(LinkProtocol):
    """BB84 as if every pulse of the link's source held exactly one photon; of the source only the rate is used."""

    f_ec: Inefficiency = 1.16

    def steady(self, link: Link) -> Rate:
        """Return sifting x Y1 [1 - h(e1) - f h(e1)]."""
        gain, qber = single_photon_clicks(link)
        bits = gain * secret_fraction(qber, qber, self.f_ec)
        return make_rate(link, gain, sifted(link), gain, qber, bits, (gain, qber))


def single_photon_clicks(link: Link) -> tuple[float, float]:
    """Return Y1 and e1 of the link; an e1 of 1/2 where nothing ever clicks."""
    gain = float(link.photon_yield(1))
    return gain, float(link.photon_error(1)) / gain if gain else 0.5
