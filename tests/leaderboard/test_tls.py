"""Boards behind TLS: certificates of an authority of the test's own, what a worker says of bad ones, and a proxy."""

import contextlib
import os
import re
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from facesr.__main__ import main
from facesr.errors import DataError
from facesr.leaderboard.app import create_app
from facesr.leaderboard.desk import Away
from facesr.leaderboard.line import Line
from facesr.submission.send import send
from tests.leaderboard.elsewhere import contest
from tests.web.authority import Authority, Certificate, needs_openssl
from tests.web.line import Between
from tests.web.serving import served

ROOT = Path(__file__).resolve().parents[2]
TOKEN = "t" * 43
pytestmark = needs_openssl


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority") / "own")


@pytest.fixture
def token(tmp_path: Path) -> Path:
    path = tmp_path / "token.txt"
    path.write_text(TOKEN)
    return path


@pytest.fixture(autouse=True)
def trusts_nobody_new(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)


class Listener:
    """A server that speaks TLS, hears what comes, and answers nothing; `url` is its address."""

    def __init__(self, certificate: Certificate) -> None:
        self.heard = b""
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(certificate.chain, certificate.key)
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"https://localhost:{self._listening.getsockname()[1]}"
        self.thread = threading.Thread(target=self._hear)
        self.thread.start()

    def _hear(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listening.accept()
                near.settimeout(30)
                with near, contextlib.suppress(OSError), self._context.wrap_socket(near, server_side=True) as inside:
                    self.heard += inside.recv(1 << 16)

    def close(self) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self.thread.join(60)


@contextlib.contextmanager
def listening(certificate: Certificate) -> Iterator[Listener]:
    found = Listener(certificate)
    try:
        yield found
    finally:
        found.close()


def worker(url: str, token: Path, capsys: pytest.CaptureFixture[str]) -> tuple[int | str | None, str]:
    """Returns the exit code of `facesr board worker`, and what it says on stderr."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as left:
        raise SystemExit(main(["board", "worker", url, f"token={token}", "--until-idle"]))
    return left.value.code, capsys.readouterr().err


def trusted(monkeypatch: pytest.MonkeyPatch, file: Path) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(file))


BAD = {
    "unknown": r"URL has .* authority that this machine does not know; .* set SSL_CERT_FILE to its file\.",
    "other authority": r"URL has .* authority that SSL_CERT_FILE=\S+/other/authority\.pem does not know; .*",
    "no file": r"SSL_CERT_FILE=\S+/nothing\.pem is no file, so the certificate of URL is unknown; correct it\.",
    "other name": r"URL has a certificate for another name; give the address that it was made for\.",
    "other address": r"URL has a certificate for another name; give the address that it was made for\.",
    "expired": r"URL has an expired certificate; ask the organiser to renew it, or set this machine's clock\.",
    "early": r"URL has a certificate that is not valid yet; set this machine's clock, or ask the organiser\.",
    "purpose": r"URL has a certificate that is not accepted \(.*\); ask the organiser for another one\.",
}


@pytest.mark.parametrize("fault", BAD)
def test_a_bad_certificate_is_one_sentence_and_no_token(
    fault: str,
    authority: Authority,
    token: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    name, span = "localhost", {}
    file = None if fault == "unknown" else authority.certificate
    if fault == "other authority":
        file = Authority(tmp_path / "other").certificate
    elif fault == "no file":
        file = tmp_path / "nothing.pem"
    elif fault == "other name":
        name = "board.example.org"
    elif fault == "expired":
        span = {"ends": "20210101000000Z"}
    elif fault == "early":
        span = {"begins": "20980101000000Z"}
    certificate = authority.server(name, purpose="clientAuth" if fault == "purpose" else "serverAuth", **span)
    if file is not None:
        trusted(monkeypatch, file)
    with listening(certificate) as board:
        url = board.url.replace("localhost", "127.0.0.1") if fault == "other address" else board.url
        code, told = worker(url, token, capsys)
        # What sends archives says the same, at once: asking again does not help.
        archive = tmp_path / "a.zip"
        archive.write_bytes(b"archive")
        with pytest.raises(DataError) as raised:
            send(archive, "0" * 64, url, TOKEN, "final", pause=lambda seconds: pytest.fail("it is tried again"))
        # A worker that runs waits for a better one.
        with pytest.raises(Away, match="certificate"):
            Line(url, TOKEN).once("GET", "/phases")
        with pytest.raises(Away, match="certificate"):
            Line(url, TOKEN)._append("/references", tmp_path / "file", 0, 10, "")
    assert code == 2
    wanted = BAD[fault].replace("URL", re.escape(url))
    assert re.fullmatch(rf"error: {wanted}\n", told), told
    assert re.fullmatch(wanted, str(raised.value))
    assert board.heard == b""


def test_the_token_is_heard_where_the_certificate_is_good(
    authority: Authority, token: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What the test above relies on: a server that is trusted hears the token."""
    trusted(monkeypatch, authority.certificate)
    with listening(authority.server("localhost")) as board:
        code, told = worker(board.url, token, capsys)
    assert code == 2 and "cannot be reached" in told
    assert f"Authorization: Bearer {TOKEN}".encode() in board.heard


def test_a_certificate_for_an_address_without_a_name(
    authority: Authority, token: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    trusted(monkeypatch, authority.certificate)
    with listening(authority.server("127.0.0.1")) as board:
        worker(board.url.replace("localhost", "127.0.0.1"), token, capsys)
    assert TOKEN.encode() in board.heard


class Proxy(Between):
    """What ends TLS in front of a board, and tells it by headers who asked, as nginx does."""

    def __init__(self, certificate: Certificate, board: str, headers: str) -> None:
        self._headers = headers.encode()
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(certificate.chain, certificate.key)
        super().__init__(board)
        self.url = f"https://localhost:{self.port}"

    def carry(self, near: socket.socket) -> None:
        """Carries one request and its answer; a client of ours opens a connection for each."""
        with near, contextlib.suppress(OSError), self._context.wrap_socket(near, server_side=True) as inside:
            asked = b""
            while b"\r\n\r\n" not in asked and (data := inside.recv(1 << 16)):
                asked += data
            head, _, rest = asked.partition(b"\r\n")
            length = re.search(rb"(?i)content-length: (\d+)", asked)
            with socket.create_connection(self.target) as far:
                far.sendall(head + b"\r\n" + self._headers + b"Connection: close\r\n" + rest)
                left = (int(length[1]) if length else 0) - len(asked.partition(b"\r\n\r\n")[2])
                while left > 0 and (data := inside.recv(1 << 16)):
                    far.sendall(data)
                    left -= len(data)
                while data := far.recv(1 << 16):
                    inside.sendall(data)


@pytest.mark.slow
@pytest.mark.parametrize("is_behind_proxy", [False, True])
def test_a_worker_scores_over_tls(authority: Authority, tmp_path: Path, is_behind_proxy: bool) -> None:
    """The command as a process that knows the authority by SSL_CERT_FILE alone: claim, references, archive, report."""
    certificate = authority.server("localhost")
    with contest(tmp_path) as board, contextlib.ExitStack() as stack:
        board.begin()
        code = board.sent("Farr")
        app = create_app(board.place, board.database, trusted_proxy=is_behind_proxy)
        if is_behind_proxy:
            inner = stack.enter_context(served(app, proxy_headers=False))
            headers = "X-Forwarded-For: 203.0.113.5\r\nX-Forwarded-Proto: https\r\n"
            proxy = stack.enter_context(contextlib.closing(Proxy(certificate, inner, headers)))
            url = proxy.url
        else:
            url = stack.enter_context(served(app, ssl_certfile=certificate.chain, ssl_keyfile=certificate.key))
        (tmp_path / "token.txt").write_text(board.token("far"))
        command = [sys.executable, "-m", "facesr", "board", "worker", url, "token=token.txt", "--until-idle"]
        more = {"FACESR_CACHE": str(tmp_path / "cache"), "PYTHONPATH": str(ROOT)}
        alone = {**os.environ, **more}
        done = subprocess.run(command, cwd=tmp_path, env=alone, capture_output=True, text=True, timeout=300)
        assert done.returncode == 2 and "set SSL_CERT_FILE" in done.stderr and board.row(code).state == "queued"
        knowing = {**alone, "SSL_CERT_FILE": str(authority.certificate)}
        done = subprocess.run(command, cwd=tmp_path, env=knowing, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        assert (board.row(code).state, board.evaluation(code).worker) == ("scored", "far")


def test_a_proxy_that_says_that_its_client_came_without_tls(
    authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The board believes its proxy: then the token was heard on the way, and the worker is told so."""
    trusted(monkeypatch, authority.certificate)
    with contest(tmp_path) as board:
        (tmp_path / "token.txt").write_text(board.token("far"))
        app = create_app(board.place, board.database, trusted_proxy=True)
        headers = "X-Forwarded-For: 203.0.113.5\r\nX-Forwarded-Proto: http\r\n"
        with (
            served(app, proxy_headers=False) as inner,
            contextlib.closing(Proxy(authority.server("localhost"), inner, headers)) as proxy,
        ):
            code, told = worker(proxy.url, tmp_path / "token.txt", capsys)
    assert code == 2 and "workers need https here" in told
