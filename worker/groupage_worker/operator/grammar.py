"""The grammar of the command line: every command with its help."""

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from groupage import __version__
from groupage.contract import PRODUCER_PATTERN
from groupage_worker.operator import acl, bulk, changes, lookups, status
from groupage_worker.states import BatchState

_ABOUT = """\
Looks at a groupage fleet and tells it what to do. It speaks to the fleet's Redis servers, never to the service:
what has to be done there, the workers do.

  groupage status                                 what is going on, live
  groupage drain mini-east --reason "migration"   no new batch onto a deployment
  groupage dead list                              what waits for a decision of yours
  groupage submit in.jsonl --producer reports     a whole batch file in
  groupage collect in.jsonl --producer reports --output out.jsonl    and its replies out"""

_SOURCES = """\
Settings are the worker's: --config or GROUPAGE_CONFIG names the file, GROUPAGE_ variables override it. Exit status:
0 done; 1 something outside is in the way, try again; 2 the call must be changed. docs/cli.md has examples."""

PRIORITIES = ("urgent", "normal", "bulk")


class Grammar:
    """Builds the parser; one method a family of commands.

    Attributes:
        parser: The whole.
        commands: Every command by name.
    """

    def __init__(self) -> None:
        self._raw = argparse.RawDescriptionHelpFormatter
        self.parser = argparse.ArgumentParser(
            "groupage", description=_ABOUT, epilog=_SOURCES, formatter_class=self._raw
        )
        self.parser.add_argument("--version", action="version", version=f"groupage {__version__}")
        self._common = argparse.ArgumentParser(add_help=False)
        self._common.add_argument(
            "--config", type=Path, metavar="FILE", help="settings of the workers, .yaml or .toml"
        )
        self._common.add_argument("--json", action="store_true", help="print JSON")
        self._yes = argparse.ArgumentParser(add_help=False)
        self._yes.add_argument(
            "--yes", action="store_true", help="do not ask; what changes is named all the same"
        )
        self._places = self.parser.add_subparsers(required=True, metavar="COMMAND")
        self.commands: Mapping[str, argparse.ArgumentParser] = self._places.choices
        self._looks()
        self._requests()
        self._deployments()
        self._dead()
        self._files()
        self._acl()

    def _add(self, where: Any, name: str, about: str, **more: Any) -> argparse.ArgumentParser:
        """A command whose short and long help are made of the same text."""
        short = about.partition("\n")[0].rstrip(".")
        parents = [self._common, *more.pop("parents", ())]
        parser: argparse.ArgumentParser = where.add_parser(
            name, parents=parents, help=short, description=about, epilog=_SOURCES, formatter_class=self._raw
        )
        parser.set_defaults(**more)
        return parser

    def _looks(self) -> None:
        one = self._add(
            self._places,
            "status",
            "Lanes, deployments and batches, with ages.\nOn a terminal the view is painted anew until Ctrl-C.",
            on_fleet=status.status,
        )
        one.add_argument("--once", action="store_true", help="show it once")
        one.add_argument(
            "--every", type=_seconds, default=2.0, metavar="S", help="seconds between two views (default 2)"
        )
        one = self._add(
            self._places,
            "quota",
            "The quota ledger.\nReserved tokens against the limit; with NAME also every reservation.",
            on_fleet=status.quota,
        )
        one.add_argument("name", nargs="?", metavar="NAME", help="one deployment")
        one = self._add(self._places, "batches", "List open batches, oldest first.", on_fleet=lookups.batches)
        one.add_argument(
            "--closed", action="store_true", help="closed ones that are still kept, newest first"
        )
        one.add_argument("--state", choices=[state.value for state in BatchState], help="only in this state")
        one.add_argument("--lane", help="only of this lane")
        one.add_argument("--deployment", help="only of this deployment")
        _limit(one)
        one = self._add(
            self._places,
            "batch",
            "One batch with its whole history.\nWhere it went, when, and why; the newest hundred events are kept.",
            on_fleet=lookups.batch,
        )
        one.add_argument("id", metavar="ID", help="as `batches` lists it")

    def _requests(self) -> None:
        one = self._add(
            self._places,
            "requests",
            "List open requests of a lane, in no order, without bodies.",
            on_fleet=lookups.requests,
        )
        _lane(one)
        one.add_argument("--producer", type=_producer, metavar="NAME", help="only of this producer")
        one.add_argument("--state", choices=("waiting", "batched"), help="only in this state")
        _limit(one)
        one = self._add(
            self._places,
            "request",
            "One request: where it is, and in which batch.\nNever its reply; its body only with --body, and only if the "
            "setting operator.show_bodies allows it.",
            on_fleet=lookups.request,
        )
        one.add_argument("id", metavar="ID", help="the request's id")
        _lane(one)
        one.add_argument(
            "--producer", type=_producer, required=True, metavar="NAME", help="whose request it is"
        )
        one.add_argument("--body", action="store_true", help="show the body of an open request")
        one = self._add(
            self._places,
            "cancel",
            "Cancel requests, or one batch.\nA request is answered as cancelled at once. A batch is cancelled at the "
            "service; what it has\nanswered is delivered, the rest goes back to its lane and is sent again.",
            parents=[self._yes],
            on_fleet=changes.cancel,
        )
        one.add_argument("ids", nargs="*", metavar="ID", help="requests")
        _lane(one)
        one.add_argument("--producer", type=_producer, metavar="NAME", help="whose requests they are")
        one.add_argument("--batch", metavar="ID", help="a batch instead of requests")

    def _deployments(self) -> None:
        one = self._add(
            self._places,
            "drain",
            "Keep new batches off a deployment.\nWhat is at the service goes on; what is not created there yet goes back "
            "to its lane.\nIt stays so until `groupage resume`, over every restart.",
            parents=[self._yes],
            on_fleet=changes.drain,
        )
        one.add_argument("name", metavar="NAME", help="the deployment")
        one.add_argument("--reason", required=True, metavar="TEXT", help="why; `status` shows it")
        one = self._add(
            self._places,
            "resume",
            "Give a deployment new batches again.\nEnds a drain, and a pause that the fleet made by itself.",
            parents=[self._yes],
            on_fleet=changes.resume,
        )
        one.add_argument("name", metavar="NAME", help="the deployment")

    def _dead(self) -> None:
        about = "Batches in quarantine: the service refused them for a reason nobody knows.\nTheir requests wait until you "
        dead = self._places.add_parser(
            "dead",
            help="quarantined batches: list, retry, drop",
            description=about + "decide, or until their deadlines do.",
            epilog=_SOURCES,
            formatter_class=self._raw,
        )
        choices = dead.add_subparsers(required=True, metavar="COMMAND")
        self._add(choices, "list", "List quarantined batches, oldest first.", on_fleet=lookups.dead)
        for name, about, handler in (
            ("retry", "Give their requests back to the lanes, at no attempt of theirs.", changes.dead_retry),
            (
                "drop",
                "Answer their requests as failed, with the code dropped_by_operator.",
                changes.dead_drop,
            ),
        ):
            one = self._add(choices, name, about, parents=[self._yes], on_fleet=handler)
            one.add_argument("ids", nargs="*", metavar="ID", help="batches")
            one.add_argument("--all", action="store_true", help="every quarantined batch")

    def _files(self) -> None:
        one = self._add(
            self._places,
            "submit",
            "Submit a batch file, one request a line.\nThe format is OpenAI's. Every line is looked at before the first is "
            "sent. Ids are made of the custom_ids, so\nthe same call again sends nothing twice, as long as the replies are "
            "kept (reply_ttl_s of the lane).\n`model` in a body is dropped: the worker writes the deployment's.",
            on_files=bulk.submit,
        )
        _file(one)
        one.add_argument("--priority", choices=PRIORITIES, default="bulk", help="default: bulk")
        one.add_argument(
            "--deadline-s",
            type=_seconds,
            metavar="S",
            help="seconds until a request expires; default: the lane's",
        )
        one = self._add(
            self._places,
            "collect",
            "Fetch the replies to a batch file.\nWaits for each line's reply and writes them in the order of the file, in "
            "OpenAI's format, errors\nincluded. The same call again goes on where it ended.",
            on_files=bulk.collect,
        )
        _file(one)
        one.add_argument("--output", type=Path, required=True, metavar="OUT", help="file for the replies")
        one.add_argument(
            "--timeout-s", type=_seconds, metavar="S", help="longest wait altogether; default: for ever"
        )

    def _acl(self) -> None:
        one = self._add(
            self._places,
            "acl",
            "Make an ACL file for Redis or Valkey.\nUsers `worker`, `operator`, `metrics`, `replica`, `sentinel` and "
            "`producer-NAME`, each with the least rights; `default` is switched off.\nChanges no server: put the file where "
            "`aclfile` says, add your administrator's line, then ACL LOAD, which ends\nevery user that is not in the file. "
            "Needs no settings.",
            on_files=acl.acl,
        )
        one.add_argument(
            "--passwords",
            type=Path,
            required=True,
            metavar="DIR",
            help="folder with one file a user, named as the user; those that are missing are made",
        )
        one.add_argument(
            "--producer",
            type=_producer,
            action="append",
            default=[],
            metavar="NAME",
            help="a backend service; repeat it",
        )
        one.add_argument("--no-staff", action="store_true", help="leave out all but producers")
        one.add_argument(
            "--redis", choices=("7.0", "7.2"), default="7.2", help="oldest server that reads it; default 7.2"
        )


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < 1e9:
        raise argparse.ArgumentTypeError(f"{text}: must be seconds above 0")
    return value


def _producer(text: str) -> str:
    if not PRODUCER_PATTERN.fullmatch(text):
        raise argparse.ArgumentTypeError(f"{text}: must match {PRODUCER_PATTERN.pattern}")
    return text


def _count(text: str) -> int:
    if not text.isdecimal() or not 0 < int(text) <= 1_000_000:
        raise argparse.ArgumentTypeError(f"{text}: must be a whole number from 1 to 1,000,000")
    return int(text)


def _limit(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--limit", type=_count, default=100, metavar="N", help="show at most so many (default 100)"
    )


def _lane(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--lane", help="default: the only one of the settings")


def _file(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", type=Path, metavar="FILE", help="the batch file, .jsonl")
    parser.add_argument(
        "--producer",
        type=_producer,
        required=True,
        metavar="NAME",
        help="producer that the requests belong to",
    )
    _lane(parser)
    parser.add_argument(
        "--redis-file",
        type=Path,
        metavar="FILE",
        help="file that holds the URL of the data server, instead of worker settings; needs --lane",
    )
    parser.add_argument(
        "--keys-dir",
        type=Path,
        metavar="DIR",
        help="folder of the producer's keys; default: the producer's own in encryption.keys_dir of the settings",
    )
