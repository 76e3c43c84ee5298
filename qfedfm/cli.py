"""The command line: `qfedfm COMMAND --help` says what each command takes.

Heavy modules are imported by the command that needs them, so that `--help` answers at once. Exit status: 0 when done,
1 when a qfedfm error was printed, 2 for a wrong command line, 130 when interrupted.
"""

import argparse
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from . import cli_qkd
from .errors import ConfigurationError, QfedfmError

if TYPE_CHECKING:
    from .experiment import Experiment

Command = Callable[[argparse.Namespace], None]


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status."""
    arguments = _parser().parse_args(argv)
    command: Command = arguments.command
    if "" not in sys.path:
        sys.path.insert(0, "")  # classes of the user's own are looked for in the working directory too
    try:
        command(arguments)
    except ConfigurationError as error:
        for problem in error.problems:
            print(f"qfedfm: {problem}", file=sys.stderr)
        if len(error.problems) > 1:
            print(f"qfedfm: {len(error.problems)} mistakes", file=sys.stderr)
        return 1
    except QfedfmError as error:
        print(f"qfedfm: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("qfedfm: interrupted; the same command with --resume goes on from the last round", file=sys.stderr)
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    from . import __version__

    parser = argparse.ArgumentParser(prog="qfedfm", description="Federated foundation models with quantum parts.")
    parser.add_argument("--version", action="version", version=f"qfedfm {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    demo = commands.add_parser("demo", help="quantum head against its classical twins on real text, in minutes")
    demo.add_argument("--smoke", action="store_true", help="a very small version, to see that everything works")
    _with_directory(demo)
    demo.set_defaults(command=_demo)

    run = _with_file(commands.add_parser("run", help="run an experiment file"))
    _with_directory(run)
    _with_budget(run, "seconds on a quantum processor that all attempts at this run may take; IBM's devices need it")
    run.set_defaults(command=_run)

    check = _with_file(commands.add_parser("check", help="validate an experiment file without running it"))
    check.set_defaults(command=_check)

    compare = _with_file(commands.add_parser("compare", help="compare an experiment's quantum head with its twins"))
    _with_directory(compare)
    compare.add_argument("--seeds", type=int, default=10, help="number of seeds (default 10)")
    compare.add_argument("--rates", type=float, nargs="+", help="learning rates that every arm tries")
    compare.add_argument(
        "--margin", type=float, default=0.02, help="largest difference that would not matter (default 0.02)"
    )
    compare.add_argument(
        "--metric", default="accuracy", help="what is compared: accuracy (default), loss, f1, auroc, rmse, ..."
    )
    compare.add_argument(
        "--hold",
        default="rounds",
        help="what is equal for all arms: rounds (default), or the cost in executions, shots or qpu_seconds",
    )
    compare.add_argument(
        "--arm",
        action="append",
        type=_arm,
        metavar="NAME=FILE",
        dest="arms",
        help="an arm of your own, the subject first; give it twice or more to replace the built-in twins",
    )
    compare.set_defaults(command=_compare)

    sweep = _with_file(commands.add_parser("sweep", help="run an experiment at many values of its fields"))
    sweep.add_argument(
        "--grid",
        action="append",
        required=True,
        metavar="A.B=V,V,V",
        dest="axes",
        help="values of a field, such as training.optimizer.lr=0.01,0.1; given twice or more, every combination is run",
    )
    _with_directory(sweep)
    sweep.add_argument("--seeds", type=int, default=3, help="number of seeds of every point (default 3)")
    sweep.add_argument("--metric", default="accuracy", help="what the choice is made by: accuracy (default) or loss")
    sweep.set_defaults(command=_sweep)

    estimate = _with_file(
        commands.add_parser("estimate", help="what a run would take on a quantum processor; nothing is sent")
    )
    estimate.add_argument(
        "--backend",
        type=_device,
        metavar="KIND:NAME",
        help="fake:torino, say, or ibm:ibm_torino (default: the experiment's)",
    )
    estimate.add_argument("--shots", type=int, help="shots of a row in each setting (default: the experiment's)")
    estimate.add_argument(
        "--gradient",
        action="append",
        choices=("ParameterShift", "Spsa"),
        dest="gradients",
        help="how gradients are found; may be given twice (default: the experiment's own, and both)",
    )
    estimate.add_argument("--price", type=float, help="price of a second")
    _with_budget(estimate, "say how many rounds so many seconds pay for")
    estimate.set_defaults(command=_estimate)

    report = commands.add_parser("report", help="write the report of a run, comparison or sweep again; summarise it")
    report.add_argument("directory", type=Path, help="the directory of a run, comparison or sweep")
    report.set_defaults(command=_report)

    init = commands.add_parser("init", help="write a small project: an experiment, a circuit, a head and a test")
    init.add_argument("folder", type=Path, metavar="NAME", help="the new folder")
    init.set_defaults(command=_init)

    doctor = commands.add_parser(
        "doctor", help="what is installed, what is missing, and whether the simulator is right"
    )
    doctor.set_defaults(command=_doctor)

    cite = commands.add_parser("cite", help="BibTeX of every method that an experiment uses")
    cite.add_argument("file", type=Path, nargs="?", help="an experiment in TOML; none for qfedfm alone")
    cite.set_defaults(command=_cite)

    cli_qkd.add(commands.add_parser("qkd", help="quantum key distribution: rates, a session, an experiment's budget"))
    _add_kme(commands.add_parser("kme", help="simulated key management entities (ETSI GS QKD 014)"))
    return parser


def _add_kme(kme: argparse.ArgumentParser) -> None:
    commands = kme.add_subparsers(title="commands", required=True, metavar="COMMAND")
    certs = commands.add_parser("certs", help="make a test authority, and certificates for KMEs and SAEs")
    certs.add_argument("certificates", type=Path, metavar="directory", help="where they go")
    certs.add_argument("--kme", nargs="+", default=[], metavar="KME", dest="kmes", help="ids of KMEs")
    certs.add_argument("--sae", nargs="+", default=[], metavar="SAE", dest="saes", help="ids of SAEs")
    certs.add_argument(
        "--host", nargs="+", default=["localhost", "127.0.0.1"], dest="hosts", help="names and addresses of the KMEs"
    )
    certs.set_defaults(command=_kme_certs)

    serve = commands.add_parser("serve", help="run KMEs in one process, with a simulated link between every two")
    serve.add_argument("certificates", type=Path, metavar="directory", help="of the certificates; key stores go there")
    serve.add_argument(
        "--kme",
        action="append",
        required=True,
        type=_place,
        metavar="KME:PORT=SAE,SAE",
        dest="places",
        help="a KME, its port (0: any free one) and the SAEs it serves; give it twice or more",
    )
    serve.add_argument("--host", default="127.0.0.1", help="address to listen on (default 127.0.0.1)")
    cli_qkd.with_link(serve, "random")
    serve.add_argument("--key-size", type=int, default=256, help="default size of a key in bits (default 256)")
    serve.set_defaults(command=_kme_serve)


def _place(text: str) -> tuple[str, int, tuple[str, ...]]:
    where, equals, saes = text.partition("=")
    name, colon, port = where.rpartition(":")
    if not (name and equals and colon and saes and port.isascii() and port.isdigit() and int(port) < 65536):
        raise argparse.ArgumentTypeError(f"expected KME:PORT=SAE or KME:PORT=SAE,SAE; got {text!r}")
    return name, int(port), tuple(saes.split(","))


def _with_file(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    parser.add_argument("file", type=Path, help="an experiment in TOML, see examples/")
    parser.add_argument(
        "--set", action="append", default=[], metavar="A.B=VALUE", dest="settings", help="override a value"
    )
    return parser


def _with_directory(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--directory", type=Path, help="where results go (default: a new folder under runs/)")
    parser.add_argument("--resume", action="store_true", help="go on where an earlier start of the same thing stopped")


def _with_budget(parser: argparse.ArgumentParser, text: str) -> None:
    parser.add_argument("--max-qpu-seconds", type=float, metavar="SECONDS", help=text)


def _device(text: str) -> tuple[str, str]:
    kind, colon, name = text.partition(":")
    if kind not in ("fake", "ibm") or not colon or not name:
        raise argparse.ArgumentTypeError(f"expected fake:NAME or ibm:NAME; got {text!r}")
    return kind, name


def _arm(text: str) -> tuple[str, Path]:
    name, equals, file = text.rpartition("=")
    if not (name and equals and file):
        raise argparse.ArgumentTypeError(f"expected NAME=FILE; got {text!r}")
    return name, Path(file)


def _load(file: Path, settings: Sequence[str]) -> "Experiment":
    from .experiment import Experiment

    return Experiment.load(file, settings)


def _demo(arguments: argparse.Namespace) -> None:
    from .demo import demo

    comparison = demo(arguments.smoke, arguments.directory, arguments.resume)
    print(f"\n{comparison!r}\n\nreport: {comparison.directory / 'report.html'}")


def _run(arguments: argparse.Namespace) -> None:
    from .runs import run

    experiment = _load(arguments.file, arguments.settings)
    result = run(experiment, arguments.directory, resume=arguments.resume, max_qpu_seconds=arguments.max_qpu_seconds)
    print(f"{result!r}\n{'report':>20}  {result.directory / 'report.html'}")


def _estimate(arguments: argparse.Namespace) -> None:
    from dataclasses import replace

    from . import backends
    from .estimation import estimate

    experiment = _load(arguments.file, arguments.settings)
    device = experiment.backend
    if arguments.backend:
        kind, name = arguments.backend
        shots = device.shots or 1024
        device = backends.IBM(name, shots) if kind == "ibm" else backends.FakeRuntime(name, shots)
    if arguments.shots is not None and isinstance(device, backends.IBM | backends.FakeRuntime | backends.Fake):
        device = replace(device, shots=arguments.shots)
    gradients = [getattr(backends, name)() for name in arguments.gradients] if arguments.gradients else None
    print(
        estimate(
            experiment,
            device,
            gradients=gradients,
            price=arguments.price,
            max_qpu_seconds=arguments.max_qpu_seconds,
        )
    )


def _check(arguments: argparse.Namespace) -> None:
    experiment = _load(arguments.file, arguments.settings)
    experiment.check()
    print(f"{arguments.file}: a valid experiment, {experiment.identity[:8]}")
    if plateau := experiment.plateau():
        print(plateau)


def _compare(arguments: argparse.Namespace) -> None:
    from .comparison import compare

    comparison = compare(
        _load(arguments.file, arguments.settings),
        {name: _load(file, arguments.settings) for name, file in arguments.arms} if arguments.arms else None,
        seeds=arguments.seeds,
        rates=arguments.rates,
        margin=arguments.margin,
        metric=arguments.metric,
        hold=arguments.hold,
        directory=arguments.directory,
        resume=arguments.resume,
    )
    print(f"\n{comparison!r}\n\nreport: {comparison.directory / 'report.html'}")


def _sweep(arguments: argparse.Namespace) -> None:
    from .points import axis_of
    from .sweeps import sweep

    axes = [axis_of(text, arguments.file.absolute().parent) for text in arguments.axes]
    if len(dict(axes)) < len(axes):
        raise ConfigurationError("--grid: each path once, with all its values")
    result = sweep(
        _load(arguments.file, arguments.settings),
        dict(axes),
        seeds=arguments.seeds,
        metric=arguments.metric,
        directory=arguments.directory,
        resume=arguments.resume,
    )
    print(f"\n{result!r}\n\nreport: {result.directory / 'report.html'}")


def _report(arguments: argparse.Namespace) -> None:
    from .comparison import COMPARISON, Comparison
    from .result import Result
    from .swept import SWEEP, Sweep

    kinds: dict[str, type[Comparison] | type[Sweep]] = {COMPARISON: Comparison, SWEEP: Sweep}
    found = [kind for file, kind in kinds.items() if (arguments.directory / file).exists()]
    opened = found[0].load(arguments.directory) if found else Result.load(arguments.directory)
    path = opened.report()
    print(f"{opened!r}\n\nreport: {path}")


def _init(arguments: argparse.Namespace) -> None:
    from .new_project import new_project

    for path in new_project(arguments.folder):
        print(path)
    print(f"\ncd {arguments.folder}\nqfedfm run experiment.toml")


def _doctor(arguments: argparse.Namespace) -> None:  # noqa: ARG001
    from .installation import about, self_check

    print(about(), flush=True)
    check = self_check()
    print(f"{'self-check':>20}  {check}")
    if not check.passed:
        raise QfedfmError("the simulator is wrong on this machine: report it with the lines above")


def _cite(arguments: argparse.Namespace) -> None:
    from .citations import cite

    print(cite(arguments.file), end="")


def _kme_certs(arguments: argparse.Namespace) -> None:
    from .qkd.etsi014.certificates import make_certificates

    for path in make_certificates(arguments.certificates, arguments.kmes, arguments.saes, arguments.hosts):
        print(path)


def _kme_serve(arguments: argparse.Namespace) -> None:
    from .qkd.etsi014 import Limits, serve

    places = {name: (port, saes) for name, port, saes in arguments.places}
    if len(places) < len(arguments.places):
        raise ConfigurationError("--kme: each KME has a name of its own")
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    limits, supply = Limits(key_size=arguments.key_size), cli_qkd.supply(arguments)
    with serve(arguments.certificates, places, arguments.host, limits, supply) as servers:
        for name, server in servers.items():
            print(f"{name:>20}  {server.url}  serves {', '.join(places[name][1])}")
        print("These keys are simulated and protect nothing in the real world. Stop with Ctrl-C.", flush=True)
        while not stop.wait(1):
            pass


if __name__ == "__main__":
    sys.exit(main())
