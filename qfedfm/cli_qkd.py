"""`qfedfm qkd`: key rates of protocols, one simulated session, and the key budget of an experiment.

All of it is simulated or computed from a model of the link; no key that it speaks of protects anything.
"""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from .errors import ConfigurationError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from .qkd import DecoyBB84, Eavesdropper, KeySupply, Link, QkdProtocol

LINKS = ("metro", "gys", "lim")
PROTOCOLS = ("decoy", "infinite", "finite", "nodecoy", "sarg04", "single", "six-state", "bbm92")
EVES = ("none", "intercept-resend", "breidbart", "photon-number-splitting", "beam-splitting")


def add(qkd: argparse.ArgumentParser) -> None:
    """Give the parser of `qfedfm qkd` its commands."""
    commands = qkd.add_subparsers(title="commands", required=True, metavar="COMMAND")

    rate = commands.add_parser("rate", help="secret bits per pulse against distance, under the PLOB bound")
    rate.add_argument("--link", choices=LINKS, default="metro", help="hardware (default metro)")
    rate.add_argument(
        "--protocols", nargs="+", choices=PROTOCOLS, default=["decoy", "finite", "single"], metavar="PROTOCOL",
        help=f"of {', '.join(PROTOCOLS)} (default decoy finite single)",
    )  # fmt: skip
    rate.add_argument("--km", type=float, nargs="+", default=[0, 25, 50, 100, 150, 200], help="distances")
    _with_plot(rate)
    rate.set_defaults(command=_rate)

    session = commands.add_parser("session", help="one decoy-state BB84 session, from pulses to key, with its ledger")
    with_link(session)
    session.add_argument("--eve", choices=EVES, default="none", help="who listens on the light (default none)")
    session.add_argument("--fraction", type=float, help="of the pulses that intercept-resend takes (default 1)")
    session.add_argument("--seed", type=int, default=0, help="of the simulation (default 0)")
    session.set_defaults(command=_session)

    budget = commands.add_parser("budget", help="how many rounds an hour a link can protect for an experiment file")
    budget.add_argument("file", type=Path, help="an experiment in TOML")
    budget.add_argument(
        "--set", action="append", default=[], metavar="A.B=VALUE", dest="settings", help="override a value"
    )
    with_link(budget)
    _with_plot(budget)
    budget.set_defaults(command=_budget)


def with_link(parser: argparse.ArgumentParser, *others: str) -> None:
    """Add the options that choose a simulated link; others: names that stand for something else than a link."""
    parser.add_argument("--link", choices=(*LINKS, *others), help="hardware (default: the file's own, or metro)")
    parser.add_argument("--km", type=float, default=25.0, help="fibre length (default 25)")
    parser.add_argument("--block", type=int, default=1_000_000, help="sifted bits a session (default 1000000)")


def _with_plot(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw a picture too: .png, .svg or .pdf")


def _rate(arguments: argparse.Namespace) -> None:
    from .qkd import rate_curve

    if min(arguments.km) < 0:
        raise ConfigurationError(f"--km: expected distances of 0 or more; got {min(arguments.km):g}")
    curve = rate_curve(
        {name: _protocol(name, _link(arguments.link, 1.0)) for name in arguments.protocols}, arguments.km
    )
    table = curve.to_frame().pivot_table(index="km", columns="protocol", values="bits_per_pulse", sort=False)
    table["PLOB bound"] = curve.plob
    print(f"secret bits per pulse, {arguments.link} link\n{table.to_string(float_format=lambda x: f'{x:.4g}')}")
    _save(arguments.plot, curve.plot)


def _session(arguments: argparse.Namespace) -> None:
    import numpy as np

    from .progress import Progress
    from .qkd import run_session
    from .qkd.authentication import SESSION_BITS, AuthenticationPool

    if arguments.fraction is not None and arguments.eve not in ("intercept-resend", "breidbart"):
        raise ConfigurationError(f"--fraction is of intercept-resend and breidbart; got --eve {arguments.eve}")
    if arguments.seed < 0:
        raise ConfigurationError(f"--seed: expected a whole number of 0 or more; got {arguments.seed}")
    protocol = _tuned(arguments)
    generator = np.random.default_rng(arguments.seed)
    with Progress("session", 7) as bar:
        done = run_session(
            protocol,
            round(protocol.pulses()),
            generator,
            AuthenticationPool(generator.bytes(SESSION_BITS // 8)),
            _eve(arguments.eve, 1.0 if arguments.fraction is None else arguments.fraction),
            progress=lambda stage, _done, _of: bar.advance(stage),
        )
    rates = {"QBER of the key": done.qber_key, "QBER of the test basis": done.qber_test}
    for name, rate in rates.items():
        if rate is not None and rate.bits:
            low, high = rate.interval
            print(f"{name}: {rate.value:.4f}, 95 % interval {low:.4f} to {high:.4f}, of {rate.bits} bits")
    if done.f_ec is not None:
        print(f"reconciliation: f = {done.f_ec:.4f}, {done.frames} frames, {done.frames_failed} failed")
    print(
        f"said in public: {done.messages} messages, {done.rounds} round trips, {done.bits_alice + done.bits_bob} bits"
    )
    print(f"\n{done.to_frame().to_string(index=False)}\n\n{done}")
    print("This key is simulated and protects nothing in the real world.")


def _budget(arguments: argparse.Namespace) -> None:
    from .experiment import Experiment
    from .qkd import DecoyBB84, Scenario, budget

    experiment = Experiment.load(arguments.file, arguments.settings)
    keys = experiment.seal.keys
    declared = keys.keys if isinstance(keys, Scenario) else keys
    if arguments.link is None and isinstance(declared, DecoyBB84):
        protocol, where = declared, "the link that the file declares"
    else:
        protocol, where = (
            _tuned(arguments),
            f"{arguments.link or 'metro'} link, {arguments.km:g} km, tuned for the block",
        )
    found = budget(experiment, protocol)
    print(f"{where}:")
    print(found)
    _save(arguments.plot, found.plot)


def supply(arguments: argparse.Namespace) -> "KeySupply":
    """Return what makes the keys of simulated KMEs: BB84 sessions over the link, or "random": no light at all."""
    from .qkd import RandomSupply, SessionSupply

    return RandomSupply() if arguments.link == "random" else SessionSupply(_tuned(arguments))


def _tuned(arguments: argparse.Namespace) -> "DecoyBB84":
    """Return the protocol for the asked link and block, its intensities chosen for that block."""
    from .qkd import DecoyBB84

    return DecoyBB84(_link(arguments.link or "metro", arguments.km), block=arguments.block).tuned()


def _link(name: str, km: float) -> "Link":
    from . import qkd

    return {"metro": qkd.metro, "gys": qkd.gys, "lim": qkd.lim}[name](km)


def _protocol(name: str, link: "Link") -> "QkdProtocol":
    from . import qkd

    made: dict[str, QkdProtocol] = {
        "decoy": qkd.DecoyBB84(link),
        "infinite": qkd.InfiniteDecoyBB84(link),
        "finite": qkd.FiniteDecoyBB84(qkd.DecoyBB84(link)),
        "nodecoy": qkd.NoDecoyBB84(link),
        "sarg04": qkd.Sarg04(link),
        "single": qkd.SinglePhotonBB84(link),
        "six-state": qkd.SixState(link),
        "bbm92": qkd.Bbm92(link),
    }
    return made[name]


def _eve(name: str, fraction: float) -> "Eavesdropper | None":
    from . import qkd

    return {
        "none": lambda: None,
        "intercept-resend": lambda: qkd.InterceptResend(fraction),
        "breidbart": lambda: qkd.InterceptResend(fraction, "breidbart"),
        "photon-number-splitting": qkd.PhotonNumberSplitting,
        "beam-splitting": qkd.BeamSplitting,
    }[name]()


def _save(path: Path | None, draw: Callable[..., "Axes"]) -> None:
    if path is None:
        return
    from .svg import canvas

    ax = draw(ax=canvas((6.4, 3.6)))
    figure = ax.get_figure(root=True)
    try:
        figure.savefig(path, dpi=150)  # type: ignore[union-attr]  # canvas() has a figure
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"--plot {path}: {error}") from None
    print(f"picture: {path}")
