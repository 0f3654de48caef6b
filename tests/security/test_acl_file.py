"""What `groupage-worker acl` writes, and what it refuses."""

import stat
from pathlib import Path

import pytest

from groupage import InvalidRequest
from groupage_worker.operator import main
from groupage_worker.operator.acl import acl_lines, producer_user, staff
from groupage_worker.operator.errors import Mistake
from tests.security.guarded import acl_file
from tests.security.test_acl import USERS


def test_passwords_are_made_once_and_never_printed(tmp_path: Path) -> None:
    """Missing passwords are made for their owner's eyes only; the file has their digests; a second call changes nothing."""
    first = acl_file(tmp_path)
    for name in USERS:
        path = tmp_path / name
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert path.read_text() not in first
        assert f"user {name} on #" in first
    assert acl_file(tmp_path) == first
    assert first.splitlines()[0] == "user default off resetpass resetkeys resetchannels -@all"


def test_an_old_server_is_not_given_new_words(tmp_path: Path) -> None:
    """The file for Redis 7.0 names no command that 7.0 does not know."""
    text = "\n".join(acl_lines(USERS.values(), tmp_path, is_70=True))
    assert "setinfo" not in text
    assert "waitaof" not in text


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["--passwords", "nowhere"], "is not a folder"),
        (["--passwords", ".", "--no-staff"], "leaves no user"),
    ],
)
def test_mistakes_of_acl(
    words: list[str],
    part: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A call that names no user is refused, and so is a folder that is none."""
    monkeypatch.chdir(tmp_path)
    assert main(["acl", *words]) == 2
    assert part in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["Shop", "a:b", "*"])
def test_names_that_could_open_a_pattern_are_refused(
    name: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """A producer whose name is none is refused at its argument, before a password is made."""
    with pytest.raises(SystemExit) as ended:
        main(["acl", "--passwords", str(tmp_path), "--producer", name])
    assert ended.value.code == 2
    assert f"argument --producer: {name}: must match" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_short_password_is_refused(tmp_path: Path) -> None:
    """A password that can be guessed is no password; it is not repeated."""
    (tmp_path / "worker").write_text("hunter2")
    with pytest.raises(Mistake, match="fewer than 16 characters") as caught:
        list(acl_lines(staff(), tmp_path, is_70=False))
    assert "hunter2" not in str(caught.value)
    with pytest.raises(InvalidRequest):
        producer_user("shop:")
