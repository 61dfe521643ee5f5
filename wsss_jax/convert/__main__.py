"""Converts published checkpoints for wsss_jax, and trained networks back for the references.

Examples:
  python -m tools.convert_weights ilsvrc-cls_rna-a1_cls1000_ep-0001.params weights/resnet38
  python -m tools.convert_weights res38_cls.pth --list
  python -m tools.convert_weights runs/cse_voc cse.pth --to=pth
"""

if __name__ == "__main__":  # above the imports, so that Ctrl-C ends these with one line too
    from wsss_jax.commandline import run_command

    run_command("wsss_jax.convert.__main__:main")

import argparse
from collections.abc import Sequence

from wsss_jax.commandline import STATUS, one_line_errors
from wsss_jax.convert.destination import WRITERS, write
from wsss_jax.convert.source import check_finite, describe, list_tensors, read_source


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the command; ends the program with one line and status 1 if something is wrong."""
    options = _parse(argv)
    with one_line_errors():
        source = read_source(options.source, options.network, fresh=options.fresh, verify=options.check)
        if options.destination is not None:  # first, since the source's hash is still being computed
            write(source, options.destination, options.to, overwrite=options.overwrite)
        print(describe(source))
        if options.list:
            print(list_tensors(source))
        if options.check:
            source.fit()
            check_finite(source)
            print("check    names, checksums and values are in order")
        if options.destination is not None:
            print(f"written  {options.destination} ({options.to})")


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        "convert_weights",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=STATUS,
    )
    parser.add_argument(
        "source",
        metavar="SRC",
        help="a .params, .pth, .safetensors or .npz file, a run's folder or one step of its checkpoints",
    )
    parser.add_argument(
        "destination", metavar="DST", nargs="?", help="what to write; not with --list or --check"
    )
    parser.add_argument("--network", help="the network of SRC; found from the tensors if not given")
    parser.add_argument("--to", choices=sorted(WRITERS), default="orbax", help="default: %(default)s")
    parser.add_argument(
        "--fresh", default="", metavar="HEAD,...", help="heads that SRC lacks or that are left out"
    )
    parser.add_argument("--list", action="store_true", help="print every tensor and write nothing")
    parser.add_argument(
        "--check", action="store_true", help="verify names, checksums and values, write nothing"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace DST if it is there")
    options = parser.parse_args(argv)
    options.fresh = tuple(head for head in options.fresh.split(",") if head)
    looks = options.list or options.check
    if looks == (options.destination is not None):
        parser.error("give DST, or --list or --check, which write nothing")
    return options
