"""Chromium without a window, driven by its own protocol through two pipes, and a web server for a folder.

Source: https://chromedevtools.github.io/devtools-protocol, over --remote-debugging-pipe.
"""

import base64
import contextlib
import functools
import http.server
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome")


class Tab:
    """A page in a browser.

    Attributes:
        events: what the browser has told, in order: requests, messages, errors.
        workers: sessions of the page's workers.
    """

    def __init__(self, commands: int, answers: int) -> None:
        self._commands, self._answers = commands, answers
        self._number = 0
        self._rest = b""
        self._session: str | None = None
        self.events: list[dict[str, Any]] = []
        self.workers: list[str] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")
        # The requests of workers count, too.
        self.call("Target.setAutoAttach", autoAttach=True, waitForDebuggerOnStart=True, flatten=True)

    def call(self, method: str, session: str | None = None, **parameters: Any) -> dict[str, Any]:
        """Returns the browser's answer to a command."""
        number = self._send(method, session or self._session, parameters)
        while True:
            message = self._receive()
            if message.get("id") == number:
                assert "error" not in message, message
                return message["result"]

    def _send(self, method: str, session: str | None, parameters: dict[str, Any]) -> int:
        self._number += 1
        command: dict[str, Any] = {"id": self._number, "method": method, "params": parameters}
        if session is not None:
            command["sessionId"] = session
        os.write(self._commands, json.dumps(command).encode() + b"\0")
        return self._number

    def _receive(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            part = os.read(self._answers, 1 << 20)
            assert part, "the browser has ended"
            self._rest += part
        text, self._rest = self._rest.split(b"\0", 1)
        message: dict[str, Any] = json.loads(text)
        if "method" in message:
            self.events.append(message)
        if message.get("method") == "Target.attachedToTarget" and self._session is not None:
            worker = message["params"]["sessionId"]
            self.workers.append(worker)
            for method in ("Runtime.enable", "Log.enable", "Network.enable", "Runtime.runIfWaitingForDebugger"):
                self._send(method, worker, {})
        return message

    def evaluate(self, script: str, session: str | None = None) -> Any:
        """Returns the value of a script of the page, or of a worker, awaited where it is a promise."""
        answer = self.call("Runtime.evaluate", session, expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def wait(self, condition: str) -> None:
        """Waits until a condition of the page holds, at most a minute."""
        script = f"""new Promise((done, failed) => {{ const began = Date.now(); const look = () => {{
            if ({condition}) done(); else if (Date.now() - began > 60000) failed(Error("a minute has passed"));
            else setTimeout(look, 20); }}; look(); }})"""
        self.evaluate(script)

    def give(self, selector: str, path: Path) -> None:
        """Chooses a file in an input, as a user does."""
        root = self.call("DOM.getDocument")["root"]["nodeId"]
        node = self.call("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        self.call("DOM.setFileInputFiles", files=[str(path)], nodeId=node)

    def press(self, key: str) -> None:
        """Presses a key."""
        text = {"text": key} if len(key) == 1 else {"text": "\r"} if key == "Enter" else {}
        codes = {"ArrowLeft": 37, "ArrowUp": 38, "ArrowRight": 39, "ArrowDown": 40, "Enter": 13, "Tab": 9}
        for kind in ("keyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=key, windowsVirtualKeyCode=codes.get(key, 0), **text)

    def drag(self, *places: tuple[float, float]) -> None:
        """Drags the mouse from the first place to the last."""
        kinds = ["mousePressed", *["mouseMoved"] * (len(places) - 1), "mouseReleased"]
        for kind, (x, y) in zip(kinds, [*places, places[-1]], strict=True):
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", buttons=1, clickCount=1)

    def size(self, width: int, height: int) -> None:
        """Gives the screen a size."""
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )

    def screenshot(self, path: Path) -> None:
        """Writes the whole page as a PNG."""
        shot = self.call("Page.captureScreenshot", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(shot["data"]))

    def requests(self) -> list[str]:
        """Returns the addresses that page and workers have asked for."""
        return [
            event["params"]["request"]["url"] for event in self.events if event["method"] == "Network.requestWillBeSent"
        ]

    def complaints(self) -> list[str]:
        """Returns what stands in the console: errors, warnings, broken policies."""
        found = []
        for event in self.events:
            told = event.get("params", {})
            if event["method"] == "Runtime.exceptionThrown":
                found.append(str(told["exceptionDetails"]))
            elif event["method"] == "Log.entryAdded":
                found.append(str(told["entry"].get("text")))
            elif event["method"] == "Runtime.consoleAPICalled":
                found.append(str([part.get("value") for part in told["args"]]))
        return found


@contextlib.contextmanager
def browser(profile: Path) -> Iterator[Tab]:
    """Yields a page of a new browser, which ends with the block."""
    program = next(path for name in NAMES if (path := shutil.which(name)))
    options = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"]
    options += ["--disable-background-networking", "--remote-debugging-pipe", f"--user-data-dir={profile}"]
    command_in, command_out = os.pipe()
    answer_in, answer_out = os.pipe()
    # It reads commands from its file 3 and answers in its file 4.
    launch = f"""import os, sys
ends = os.dup({command_in}), os.dup({answer_out})
os.dup2(ends[0], 3), os.dup2(ends[1], 4), os.set_inheritable(3, True), os.set_inheritable(4, True)
os.execv(sys.argv[1], sys.argv[1:])"""
    process = subprocess.Popen(
        [sys.executable, "-c", launch, program, *options],
        pass_fds=(command_in, answer_out),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    os.close(command_in)
    os.close(answer_out)
    try:
        yield Tab(command_out, answer_in)
    finally:
        process.terminate()
        process.wait(30)
        os.close(command_out)
        os.close(answer_in)


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *arguments: Any) -> None:
        pass


@contextlib.contextmanager
def served(folder: Path) -> Iterator[str]:
    """Yields the address of a folder, served as `python -m http.server` does."""
    handler = functools.partial(_Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/"
        finally:
            server.shutdown()
            thread.join()
