"""The command `agf`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from ._backend import info, version
from ._dense import ACTIVATIONS
from ._run import RunOptions, run
from ._selftest import selftest
from .reproduce._runner import ReproduceOptions, listing, reproduce

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse the command line, do what it says, and return the exit code.

    0: done. 1: the run broke down, or an experiment does not show what it must. 2: options or data that cannot be used,
    said in one line. 130: Ctrl-C.
    """
    options = _parser().parse_args(arguments)
    try:
        return int(options.verb(options))
    except (ValueError, TypeError, OSError, ImportError) as error:
        print(f"agf {options.command}: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="agf", description="Alternating gradient flows of two-layer networks.")
    parser.add_argument("--version", action="version", version=f"agf_fast {version()}")
    commands = parser.add_subparsers(dest="command", metavar="command", required=True)
    _add_run(commands)
    _add_reproduce(commands)
    commands.add_parser(
        "info", help="versions, instruction set, threads, BLAS, and CUDA or why not", allow_abbrev=False
    ).set_defaults(verb=_info)
    commands.add_parser(
        "selftest",
        help="every backend of this machine beside the reference, in under a minute",
        description="Compare the leaves and runs of every backend that this machine has (C++, and CUDA where there is "
        "a device) with the NumPy reference, for every architecture in both dtypes. The exit status is 1 if any differ "
        "by more than rounding and tolerances allow.",
        allow_abbrev=False,
    ).set_defaults(verb=lambda _: selftest())
    return parser


def _add_run(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    default = RunOptions()
    parser = commands.add_parser(
        "run",
        help="alternating gradient flow beside gradient flow on real data",
        description="Run alternating gradient flow and gradient flow of a two-layer network from one random start; "
        "print the jumps, and write a picture (OUT.png) and the trajectory (OUT.npz). Inputs are centred and scaled to "
        "E|x|^2 = 1, labels one-hot and centred, by the training samples; every fifth sample is for testing. Gradient "
        "flow runs to 1.3 times the time of the last jump, and one active phase longer.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "--data",
        metavar="FILE",
        help="an .npz with X and y (or Y), or a .csv whose last column is the label; without it, 1,797 real "
        "handwritten digits",
    )
    parser.add_argument(
        "--activation", choices=tuple(ACTIVATIONS), default=default.activation, help="of the hidden layer"
    )
    parser.add_argument("--width", type=_count, default=default.width, metavar="H", help="number of neurons")
    parser.add_argument(
        "--scale", type=_positive, default=default.scale, help="initial norm of a neuron (root mean square)"
    )
    parser.add_argument("--seed", type=int, default=default.seed, help="of the random start")
    parser.add_argument(
        "--max-jumps", type=_count, default=default.max_jumps, metavar="K", help="stop after so many jumps"
    )
    parser.add_argument(
        "--active-time", type=_positive, default=default.active_time, help="longest active phase, in flow time"
    )
    parser.add_argument(
        "--rtol",
        type=_positive,
        default=default.rtol,
        help="accuracy of the integration; looser than the library's 1e-9 because every sample is a kink of relu, "
        "which costs small steps and shows in no figure",
    )
    parser.add_argument("--out", default=default.out, help="where to write OUT.png and OUT.npz")
    parser.add_argument("--no-flow", action="store_true", help="leave gradient flow out")
    parser.set_defaults(verb=_run)


def _run(options: argparse.Namespace) -> int:
    return run(
        RunOptions(
            data=options.data,
            activation=options.activation,
            width=options.width,
            scale=options.scale,
            seed=options.seed,
            max_jumps=options.max_jumps,
            out=options.out,
            flow=not options.no_flow,
            rtol=options.rtol,
            active_time=options.active_time,
        )
    )


def _add_reproduce(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    default = ReproduceOptions()
    parser = commands.add_parser(
        "reproduce",
        help="the experiments of the paper: tables, figures, numbers, and whether each shows what it must",
        description="Run experiments. Each prints a table (theory, alternating gradient flow, gradient flow, errors) "
        "and what it must show, and writes figures (OUT/NAME*.png) and its numbers (OUT/NAME.json). The exit status is "
        "1 if any of that does not hold.",
        allow_abbrev=False,
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="which ones, or all")
    parser.add_argument("--list", action="store_true", help="say which there are, and end")
    parser.add_argument("--out", default=default.out, metavar="FOLDER", help="where to write (default: %(default)s)")
    parser.add_argument(
        "--data",
        metavar="FOLDER",
        help="MNIST (IDX files) or CIFAR-10 (python or binary batches) for the experiments on natural images; without "
        "it, 1,797 real handwritten digits",
    )
    parser.add_argument(
        "--seed", type=_seed, help="of everything random (default: each experiment's own, for which its bars are set)"
    )
    parser.add_argument(
        "--jobs",
        type=_count,
        metavar="N",
        help="experiments at a time, in processes of one thread each (default: the number of cores)",
    )
    parser.set_defaults(verb=_reproduce)


def _reproduce(options: argparse.Namespace) -> int:
    if options.list:
        print(listing())
        return 0
    return reproduce(
        ReproduceOptions(
            names=tuple(options.names), out=options.out, data=options.data, seed=options.seed, jobs=options.jobs
        )
    )


def _info(_: argparse.Namespace) -> int:
    facts = info()
    width = max(map(len, facts))
    for name, value in facts.items():
        print(f"{name:<{width}}  {', '.join(map(str, value)) if isinstance(value, (list, tuple)) else value}")
    return 0


def _positive(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not 0.0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"got {text}, expected a positive number")
    return value


def _seed(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"got {text}, expected an integer of at least 0")
    return int(text)


def _count(text: str) -> int:
    try:
        value = int(text)
    except ValueError:
        value = 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"got {text}, expected an integer of at least 1")
    return value
