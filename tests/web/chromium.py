"""A headless Chromium, driven over its own debugging protocol."""

from __future__ import annotations

import base64
import itertools
import json
import os
import shutil
import subprocess
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.request import urlopen

from websockets.sync.client import connect

BROWSER = (
    shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
)


class Chromium:
    """One browser with one tab. Use it as a context manager."""

    def __init__(self, profile: Path) -> None:
        assert BROWSER is not None
        sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []
        self._process = subprocess.Popen(
            [
                BROWSER, "--headless=new", "--disable-gpu", "--disable-dev-shm-usage", *sandbox,
                "--remote-debugging-port=0", f"--user-data-dir={profile}", "--no-first-run",
                "about:blank",
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )  # fmt: skip
        port_file = profile / "DevToolsActivePort"
        wait_for(port_file.is_file, "Chromium's debugging port", 60)
        port = wait_for(lambda: port_file.read_text().split(), "the port's number", 10)[0]
        tabs = f"http://127.0.0.1:{port}/json/list"
        tab = wait_for(lambda: [t for t in _json(tabs) if t["type"] == "page"], "a tab", 30)[0]
        self._stack = ExitStack()
        self._socket = self._stack.enter_context(
            connect(tab["webSocketDebuggerUrl"], max_size=None, proxy=None)
        )
        self._ids = itertools.count(1)
        self.problems: list[str] = []
        """What the page wrote to its console as an error, and what the browser refused."""
        for domain in ("Page", "Runtime", "Log"):
            self.call(f"{domain}.enable")

    def __enter__(self) -> Chromium:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()
        self._process.kill()
        self._process.wait()

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        number = next(self._ids)
        self._socket.send(json.dumps({"id": number, "method": method, "params": parameters}))
        while True:
            answer = json.loads(self._socket.recv(timeout=60))
            if answer.get("id") == number:
                assert "error" not in answer, answer
                return answer["result"]  # type: ignore[no-any-return]
            self._note(answer)

    def _note(self, event: dict[str, Any]) -> None:
        if event.get("method") == "Runtime.exceptionThrown":
            self.problems.append(json.dumps(event["params"]["exceptionDetails"]))
        if event.get("method") == "Log.entryAdded" and event["params"]["entry"]["level"] == "error":
            self.problems.append(event["params"]["entry"]["text"])

    def size(self, width: int, height: int, *, mobile: bool = False, scale: float = 1) -> None:
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width, height=height, deviceScaleFactor=scale, mobile=mobile,
        )  # fmt: skip
        self.call("Emulation.setTouchEmulationEnabled", enabled=mobile)

    def open(self, url: str) -> None:
        self.call("Page.navigate", url=url)
        self.until("document.readyState === 'complete'")

    def run(self, script: str) -> Any:
        answer = self.call(
            "Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True
        )
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def until(self, script: str, seconds: float = 60) -> Any:
        return wait_for(lambda: self.run(script), script, seconds)

    def key(self, key: str) -> None:
        self.call("Input.dispatchKeyEvent", type="keyDown", key=key, text=key)
        self.call("Input.dispatchKeyEvent", type="keyUp", key=key)

    def screenshot(self, quality: int = 80) -> bytes:
        answer = self.call("Page.captureScreenshot", format="jpeg", quality=quality)
        return base64.b64decode(answer["data"])


def wait_for(condition: Any, what: str, seconds: float) -> Any:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if value := condition():
            return value
        time.sleep(0.05)
    raise AssertionError(f"waited {seconds} s in vain for {what}")


def _json(url: str) -> Any:
    with urlopen(url, timeout=10) as answer:
        return json.load(answer)
