"""A browser for tests: headless Chromium, spoken to over a pipe in the DevTools protocol, with nothing but the standard library."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

CHROMIUM = next((found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None)
"""The browser that is installed, None where there is none."""
WHY_NOT = "no Chromium or Chrome is installed; the page is opened by hand then"

# Chromium reads commands from file descriptor 3 and answers on 4; these may be taken, so that they are moved away first.
_START = (
    "import fcntl, os, sys; r, w = (fcntl.fcntl(int(a), fcntl.F_DUPFD, 10) for a in sys.argv[1:3]);"
    "os.dup2(r, 3); os.dup2(w, 4); os.execv(sys.argv[3], sys.argv[3:])"
)
_PATIENCE = 60.0  # seconds that an answer may take on a busy machine


class Browser:
    """A page in a browser that has a profile of its own, and everything that it logged or asked the network for."""

    def __init__(self, profile: Path) -> None:
        assert CHROMIUM is not None, WHY_NOT
        self.requests: list[str] = []
        self.complaints: list[str] = []
        self._number = 0
        self._answers: dict[int, dict[str, Any]] = {}
        self._happened: list[str] = []
        self._buffer = b""
        theirs_in, self._out = os.pipe()
        self._in, theirs_out = os.pipe()
        options = (
            "--headless=new", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe", "--no-first-run", "--disable-sync",
            "--disable-background-networking", "--disable-component-update", "--hide-scrollbars", f"--user-data-dir={profile}",
        )  # fmt: skip
        self._process = subprocess.Popen(
            [sys.executable, "-c", _START, str(theirs_in), str(theirs_out), CHROMIUM, *options, "about:blank"],
            pass_fds=(theirs_in, theirs_out),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(theirs_in)
        os.close(theirs_out)
        self._session: str | None = None
        targets = self.send("Target.getTargets")["targetInfos"]
        page = next(target["targetId"] for target in targets if target["type"] == "page")
        self._session = self.send("Target.attachToTarget", targetId=page, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.send(f"{domain}.enable")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._out)
        self._process.terminate()
        self._process.wait(timeout=_PATIENCE)
        os.close(self._in)

    # ---- the protocol ----

    def send(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send a command, and return the answer to it."""
        self._number += 1
        number = self._number
        message = {"id": number, "method": method, "params": parameters}
        if self._session is not None:
            message["sessionId"] = self._session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        while number not in self._answers:
            self._receive()
        answer = self._answers.pop(number)
        if "error" in answer:
            raise RuntimeError(f"{method}: {answer['error']}")
        return dict(answer["result"])

    def _receive(self) -> None:
        while b"\0" not in self._buffer:
            part = os.read(self._in, 1 << 20)
            if not part:
                raise RuntimeError("the browser ended")
            self._buffer += part
        text, _, self._buffer = self._buffer.partition(b"\0")
        message = json.loads(text)
        if "id" in message:
            self._answers[message["id"]] = message
            return
        parameters = message["params"]
        self._happened.append(message["method"])
        match message["method"]:
            case "Network.requestWillBeSent":
                self.requests.append(parameters["request"]["url"])
            case "Runtime.exceptionThrown":
                details = parameters["exceptionDetails"]
                self.complaints.append(details.get("exception", {}).get("description", details["text"]))
            case "Runtime.consoleAPICalled":
                self.complaints.append(" ".join(str(argument.get("value")) for argument in parameters["args"]))
            case "Log.entryAdded":
                self.complaints.append(parameters["entry"]["text"])

    # ---- what a reader does ----

    def show(self, *, width: int, height: int = 900, dark: bool = False, still: bool = False, media: str = "") -> None:
        """Set the size of the window [pixel], the colour scheme, whether motion is unwelcome, and the medium ("print")."""
        self.send("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        features = {"prefers-color-scheme": "dark" if dark else "light"} | (
            {"prefers-reduced-motion": "reduce"} if still else {}
        )
        self.send("Emulation.setEmulatedMedia", media=media, features=[{"name": k, "value": v} for k, v in features.items()])

    def open(self, page: Path, *, scripts: bool = True) -> None:
        """Open ``page`` and wait until it is loaded and drawn."""
        self.send("Emulation.setScriptExecutionDisabled", value=not scripts)
        self._happened.clear()
        self.send("Page.navigate", url=page.as_uri())
        until = time.monotonic() + _PATIENCE
        while "Page.loadEventFired" not in self._happened:
            assert time.monotonic() < until, "the page did not load"
            self._receive()
        if scripts:
            self.drawn()

    def drawn(self) -> None:
        """Wait for the next picture."""
        self.ask("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => done(0))))")

    def ask(self, expression: str) -> Any:
        """The value of a JavaScript expression in the page; a promise is awaited."""
        answer = self.send("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True, userGesture=True)
        if "exceptionDetails" in answer:
            raise RuntimeError(answer["exceptionDetails"].get("exception", {}).get("description", answer["exceptionDetails"]))
        return answer["result"].get("value")

    def press(self, key: str, *, shift: bool = False) -> None:
        """Press and release a key, named as in KeyboardEvent.key."""
        codes = {
            "Tab": 9,
            "Enter": 13,
            "Escape": 27,
            " ": 32,
            "End": 35,
            "Home": 36,
            "ArrowLeft": 37,
            "ArrowUp": 38,
            "ArrowRight": 39,
        }
        codes |= {"ArrowDown": 40}
        text = {"Enter": "\r"}.get(key, key if len(key) == 1 else "")
        fields = {"key": key, "code": key, "windowsVirtualKeyCode": codes.get(key, ord(key[0].upper())), "modifiers": 8 * shift}
        self.send("Input.dispatchKeyEvent", type="keyDown" if text else "rawKeyDown", text=text, **fields)
        self.send("Input.dispatchKeyEvent", type="keyUp", **fields)

    def mouse(self, kind: str, x: float, y: float, **more: Any) -> None:
        """A mouse event ("mouseMoved", "mousePressed", "mouseReleased", "mouseWheel") at a place of the window."""
        self.send("Input.dispatchMouseEvent", type=kind, x=x, y=y, **more)

    def drag(self, start: tuple[float, float], end: tuple[float, float]) -> None:
        """Press the left button at one place and release it at another."""
        self.mouse("mousePressed", *start, button="left", buttons=1, clickCount=1)
        self.mouse("mouseMoved", *end, button="left", buttons=1)
        self.mouse("mouseReleased", *end, button="left", clickCount=1)

    def picture(self, *, whole: bool = False) -> bytes:
        """The window as PNG, or the whole page."""
        return base64.b64decode(self.send("Page.captureScreenshot", captureBeyondViewport=whole)["data"])

    def pdf(self) -> bytes:
        """The page printed on A4."""
        return base64.b64decode(self.send("Page.printToPDF", paperWidth=8.27, paperHeight=11.69, printBackground=True)["data"])


@contextmanager
def opened(profile: Path) -> Iterator[Browser]:
    """A browser that is gone afterwards."""
    with Browser(profile) as browser:
        yield browser
