"""Every write that Redis ever made, from its append-only file: the one witness that sees each instant.

Scripts appear as what they changed, between MULTI and EXEC, so one unit here is one atomic change there. Reading the
file costs the run nothing. The server must not rewrite the file meanwhile (`OPTIONS`).
"""

import dataclasses
from collections.abc import Iterator
from pathlib import Path

OPTIONS = {"auto-aof-rewrite-percentage": "0"}
"""Settings of a server whose file is to be read: one part, never rewritten."""

Command = list[bytes]
Unit = list[Command]


def aof_path(data_dir: Path) -> Path:
    """The growing part of the append-only file of a server on this directory."""
    (path,) = (data_dir / "appendonlydir").glob("*.incr.aof")
    return path


def read_units(path: Path, offset: int = 0) -> Iterator[Unit]:
    """Atomic changes from an offset on; a last one that is cut off is left out.

    Args:
        path: Of the file.
        offset: Bytes to skip; the border of a unit.
    """
    with path.open("rb") as file:
        file.seek(offset)
        data = file.read()
    unit: Unit | None = None
    for command in _commands(data):
        name = command[0].upper()
        if name == b"MULTI":
            unit = []
        elif name == b"EXEC":
            if unit:
                yield unit
            unit = None
        elif name != b"SELECT":
            if unit is None:
                yield [command]
            else:
                unit.append(command)


def _commands(data: bytes) -> Iterator[Command]:
    at = 0
    while at < len(data):
        if data[at : at + 1] == b"#":
            end = data.find(b"\n", at)
            if end < 0:
                return
            at = end + 1
            continue
        end = data.find(b"\r\n", at)
        if end < 0:
            return
        count, at = int(data[at + 1 : end]), end + 2
        command = []
        for _ in range(count):
            end = data.find(b"\r\n", at)
            if end < 0:
                return
            size, start = int(data[at + 1 : end]), end + 2
            at = start + size + 2
            if at > len(data):
                return
            command.append(data[start : start + size])
        yield command


@dataclasses.dataclass(slots=True)
class Writes:
    """What the writes of one run add up to.

    Attributes:
        replies: Reply key -> every value that was ever written to it.
        requests: Request key -> how often it was created.
        moves: (batch, state before, state after) of every commit, in order.
        stale_commits: Batches that were committed twice without a begin in between.
        fences_back: Batches whose fence did not grow.
        imbalances: What was wrong with the counters of a lane after some unit, each kind once.
        peaks: Deployment -> most tokens that were ever reserved.
    """

    replies: dict[str, list[bytes]] = dataclasses.field(default_factory=dict)
    requests: dict[str, int] = dataclasses.field(default_factory=dict)
    moves: list[tuple[str, str, str]] = dataclasses.field(default_factory=list)
    stale_commits: list[str] = dataclasses.field(default_factory=list)
    fences_back: list[str] = dataclasses.field(default_factory=list)
    imbalances: list[str] = dataclasses.field(default_factory=list)
    peaks: dict[str, int] = dataclasses.field(default_factory=dict)


class Replay:
    """A small Redis that knows the commands of our scripts, and looks at each state they leave behind."""

    def __init__(self) -> None:
        self.writes = Writes()
        self._strings: dict[str, bytes] = {}
        self._hashes: dict[str, dict[str, bytes]] = {}
        self._is_begun: set[str] = set()
        self._open: dict[str, int] = {}
        self._waiting: dict[tuple[str, str], int] = {}
        self._touched: set[str] = set()

    def run(self, units: Iterator[Unit]) -> Writes:
        """Replay everything."""
        for unit in units:
            self._touched.clear()
            for command in unit:
                self._apply(command)
            for lane in self._touched:
                self._balance(lane)
        return self.writes

    def _apply(self, command: Command) -> None:
        name = command[0].upper().decode()
        if name in {"FLUSHALL", "FLUSHDB"}:
            # what was there is gone; what was written stays written
            for kept in (self._strings, self._hashes, self._open, self._waiting):
                kept.clear()
            return
        if len(command) < 2:
            return
        key = command[1].decode("utf-8", "replace")
        match name:
            case "SET":
                self._set(key, command[2])
            case "SETRANGE":
                old, start = self._strings.get(key, b""), int(command[2])
                self._set(key, old[:start] + command[3] + old[start + len(command[3]) :])
            case "DEL" | "UNLINK":
                for one in command[1:]:
                    self._delete(one.decode("utf-8", "replace"))
            case "HSET" | "HMSET" | "HSETNX":
                self._hset(key, {k.decode(): v for k, v in zip(command[2::2], command[3::2], strict=True)})
            case "HINCRBY":
                counter = command[2].decode()
                count = int(self._hashes.get(key, {}).get(counter, b"0"))
                self._hincrby(key, counter, count, count + int(command[3]))
            case "HDEL":
                for field in command[2:]:
                    self._hashes.get(key, {}).pop(field.decode(), None)
            case _:
                pass  # lists, sorted sets, streams and times to live are looked at in the dump at the end

    def _set(self, key: str, value: bytes) -> None:
        lane, kind = _place(key)
        if kind == "req":
            old = self._strings.get(key)
            if old is None:
                self.writes.requests[key] = self.writes.requests.get(key, 0) + 1
            self._count(lane, old, -1)
            self._count(lane, value, 1)
            self._touched.add(lane)
        elif kind == "rep":
            self.writes.replies.setdefault(key, []).append(value)
            self._touched.add(lane)
        self._strings[key] = value

    def _delete(self, key: str) -> None:
        lane, kind = _place(key)
        old = self._strings.pop(key, None)
        self._hashes.pop(key, None)
        if kind == "req" and old is not None:
            self._count(lane, old, -1)
            self._touched.add(lane)

    def _count(self, lane: str, value: bytes | None, by: int) -> None:
        if value is None:
            return
        self._open[lane] = self._open.get(lane, 0) + by
        if value[:1] == b"w":
            priority = value[: value.index(b"\n")].decode()[-1]
            self._waiting[lane, priority] = self._waiting.get((lane, priority), 0) + by

    def _hset(self, key: str, fields: dict[str, bytes]) -> None:
        old = self._hashes.setdefault(key, {})
        if key.startswith("g1:batch:") and "state" in fields:
            batch = key.removeprefix("g1:batch:")
            before, after = old.get("state", b"").decode(), fields["state"].decode()
            self.writes.moves.append((batch, before, after))
            if "runs" in fields and before:
                if batch not in self._is_begun:
                    self.writes.stale_commits.append(batch)
                self._is_begun.discard(batch)
            if int(fields.get("fence", old.get("fence", b"0"))) < int(old.get("fence", b"0")):
                self.writes.fences_back.append(batch)
        old.update(fields)
        if key.startswith("g1:quota:"):
            deployment = key.removeprefix("g1:quota:")
            reserved = sum(int(tokens) for tokens in old.values())
            self.writes.peaks[deployment] = max(reserved, self.writes.peaks.get(deployment, 0))

    def _hincrby(self, key: str, field: str, old: int, new: int) -> None:
        self._hashes.setdefault(key, {})[field] = b"%d" % new
        if key.startswith("g1:batch:") and field == "fence":
            self._is_begun.add(key.removeprefix("g1:batch:"))
            if new <= old:
                self.writes.fences_back.append(key.removeprefix("g1:batch:"))
        lane, kind = _place(key)
        if kind == "load":
            self._touched.add(lane)

    def _balance(self, lane: str) -> None:
        """What every atomic change must leave: counters that equal what is there."""
        load = {
            k: v for k, v in self._hashes.get(f"g1:{{{lane}}}:load", {}).items() if v.lstrip(b"-").isdigit()
        }
        count = {field: int(value) for field, value in load.items()}
        there = self._open.get(lane, 0)
        wrong = []
        if count.get("submitted_total", 0) != count.get("open_requests", 0) + count.get("settled_total", 0):
            wrong.append(f"{lane}: submitted_total is not open_requests + settled_total")
        if count.get("open_requests", 0) != there:
            wrong.append(f"{lane}: open_requests is not the number of request keys")
        wrong += [
            f"{lane}: waiting_requests:{priority} is not the number of waiting requests"
            for priority in "unb"
            if count.get(f"waiting_requests:{priority}", 0) != self._waiting.get((lane, priority), 0)
        ]
        self.writes.imbalances += [text for text in wrong if text not in self.writes.imbalances]


def _place(key: str) -> tuple[str, str]:
    """Lane and kind (`req`, `rep`, `load`) of a data key, empty for any other."""
    if not key.startswith("g1:{"):
        return "", ""
    lane, _, rest = key[4:].partition("}:")
    parts = rest.split(":")
    if rest == "load":
        return lane, "load"
    if len(parts) >= 4 and parts[0] == "p" and parts[2] in {"req", "rep"}:
        return lane, parts[2]
    return lane, ""
