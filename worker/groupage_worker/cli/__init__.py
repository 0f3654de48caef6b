"""The command `groupage-worker`: run a worker, show its settings, check what it depends on."""
# ruff: noqa: T201 - what a command says is printed

import argparse
import asyncio
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import structlog

from groupage import __version__
from groupage_worker import configfile, logs
from groupage_worker.cli import checks, reference, show
from groupage_worker.errors import ConfigurationError
from groupage_worker.settings import Settings
from groupage_worker.work import Work

EXIT_OK = 0
EXIT_FAILED = 1
EXIT_USAGE = 2
"""Also what argparse uses: the caller has to change something before it makes sense to try again."""
EXIT_INTERRUPTED = 130

_ABOUT = """\
Packs single LLM calls into Azure OpenAI batch files, over several regions, and brings every reply back.

A worker needs Redis, at least one region with a batch deployment, and one lane. Begin with a file:

  cluster: blue
  redis: {data_url: "redis://127.0.0.1:6379/0"}
  regions:
    east: {endpoint: "https://RESOURCE.openai.azure.com", location: eastus, api_key_file: /run/secrets/east}
  deployments:
    mini-east: {region: east, model: gpt-4o-mini-batch, enqueued_tokens: 5000000}
  lanes:
    chat: {deployments: [mini-east]}

then `groupage-worker check --config FILE`, then `groupage-worker run --config FILE`."""

_SOURCES = """\
Settings come from a YAML or TOML file (--config or GROUPAGE_CONFIG) and, over it, from the environment:
GROUPAGE_ and the path joined by two underscores, such as GROUPAGE_REDIS__DATA_URL or
GROUPAGE_REGIONS__EAST__API_KEY_FILE; lists and mappings as JSON. docs/configuration.md lists all of them."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        argv: Arguments after the command's name; default: the process's.

    Returns:
        Exit status: 0 done, 1 a check failed, 2 the settings or the call must be changed.
    """
    args = _parser().parse_args(argv)
    try:
        status: int = args.command(args)
    except ConfigurationError as error:
        n = len(error.problems)
        print(
            f"groupage-worker: the settings cannot work, {n} problem{'s' if n != 1 else ''}:", file=sys.stderr
        )
        print("\n".join(f"- {problem}" for problem in error.problems), file=sys.stderr)
        return EXIT_USAGE
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # whoever read our output (head, less) has seen enough; close it here, or Python complains at exit
        sys.stderr.close()
        return EXIT_OK
    return status


def _parser() -> argparse.ArgumentParser:
    """The grammar of the command line."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(
        "groupage-worker", description=_ABOUT, epilog=_SOURCES, formatter_class=raw
    )
    parser.add_argument("--version", action="version", version=f"groupage {__version__}")
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--config", type=Path, metavar="FILE", help="settings file, .yaml or .toml")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    run = commands.add_parser(
        "run",
        parents=[common],
        formatter_class=raw,
        help="run a worker until SIGTERM",
        description="Runs a worker until SIGTERM or Ctrl-C; then it ends its steps within lease.drain_s. Any number of\n"
        "workers may run with the same settings; they share the work. While Redis is away the start waits for it.\n"
        "Exit status 2: the settings cannot work.",
        epilog=_SOURCES,
    )
    run.add_argument(
        "--only",
        choices=[work.value for work in Work if work is not Work.ALL],
        default=Work.ALL.value,
        help="light: single calls; heavy: whole files. Default: both. A fleet needs somebody for each",
    )
    run.set_defaults(command=_run)
    settings = commands.add_parser(
        "settings",
        parents=[common],
        formatter_class=raw,
        help="show the effective settings and where each comes from",
        description="Shows every setting in force and where it comes from; secrets are masked. Touches nothing.",
        epilog=_SOURCES,
    )
    form = settings.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="as JSON, with the notes")
    form.add_argument("--schema", action="store_true", help="the JSON schema of a settings file; reads none")
    form.add_argument(
        "--table", action="store_true", help="the table of docs/configuration.md; reads no settings"
    )
    settings.set_defaults(command=_settings)
    _add_check(commands, common)
    return parser


def _add_check(commands: Any, common: argparse.ArgumentParser) -> None:
    """The command that tests what a worker depends on."""
    check = commands.add_parser(
        "check",
        parents=[common],
        formatter_class=argparse.RawDescriptionHelpFormatter,
        help="test Redis, credentials and regions",
        description="Tests the Redis servers (version, eviction, persistence, clock) and every region (address,\n"
        "credential, API version) with harmless calls, and says of each problem what to change. Exit status 0:\n"
        "a worker would start; 1: something must be changed.",
        epilog=_SOURCES,
    )
    check.add_argument("--json", action="store_true", help="as JSON")
    check.set_defaults(command=_check)


def _run(args: argparse.Namespace) -> int:
    """Load the settings, set up logs, and hand over to the application."""
    # the application needs arq and all the rest, which showing and checking settings does not
    from groupage_worker import app, start  # noqa: PLC0415

    loaded = configfile.load_with_sources(args.config)
    logs.configure(loaded.settings.log)
    logs.install_hooks()
    log = structlog.get_logger("cli")
    for note in loaded.notes:
        log.warning("cli.settings_note", note=note)
    try:
        return app.run(loaded.settings, Work(args.only), path=args.config)
    except start.BROKEN as error:
        # a server that refuses us, or a port that is taken: no news for a traceback, but whatever runs us tries again
        log.critical("cli.stopped", exc_info=error)
        print(
            f"groupage-worker: stopped by {type(error).__name__}; `groupage-worker check` says what is wrong with the "
            "Redis servers, and health.port must be free",
            file=sys.stderr,
        )
        return EXIT_FAILED


def _settings(args: argparse.Namespace) -> int:
    """Print settings, schema or table."""
    if args.schema:
        print(json.dumps(Settings.model_json_schema(), indent=2))
        return EXIT_OK
    if args.table:
        print(reference.table(), end="")
        return EXIT_OK
    loaded = configfile.load_with_sources(args.config)
    if args.json:
        print(json.dumps({"settings": show.masked(loaded.settings), "notes": loaded.notes}, indent=2))
    else:
        print("\n".join(show.lines(loaded)))
    return EXIT_OK


def _check(args: argparse.Namespace) -> int:
    """Test everything, print what was found."""
    loaded = configfile.load_with_sources(args.config)
    # the client logs failed calls as well; here the findings say it better
    logs.configure(loaded.settings.log.model_copy(update={"level": "error"}))
    findings = asyncio.run(checks.check(loaded))
    is_ok = not any(finding.level == "problem" for finding in findings)
    if args.json:
        print(json.dumps({"ok": is_ok, "findings": [finding.as_dict() for finding in findings]}, indent=2))
    else:
        for finding in findings:
            print(f"{finding.level:<8} {finding.text}")
    return EXIT_OK if is_ok else EXIT_FAILED
