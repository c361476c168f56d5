from __future__ import annotations

import base64
import json
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ttsbench.profiles import Flame, Gap, Kernel, Profile
from ttsbench.reports import profile_page

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
DESKTOP, PHONE = 1280, 360


class Browser:
    """A headless Chromium, driven through DevTools' protocol over a pipe; notes every address that it asks for."""

    def __init__(self, folder: Path) -> None:
        ask, self._asking = os.pipe()
        self._hearing, answer = os.pipe()
        # The protocol is spoken over descriptors 3 and 4, which the shell puts in place.
        plumbing = f'exec "$0" "$@" 3<&{ask} 4>&{answer} {ask}<&- {answer}>&-'
        command = [
            "bash", "-c", plumbing, str(CHROMIUM), "--headless", "--no-sandbox", "--remote-debugging-pipe",
            "--disable-gpu", "--disable-dev-shm-usage", "--disable-background-networking", "--hide-scrollbars",
            "--host-resolver-rules=MAP * ~NOTFOUND", f"--user-data-dir={folder}", "about:blank",
        ]  # fmt: skip
        self._process = subprocess.Popen(
            command,
            pass_fds=(ask, answer),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        os.close(ask)
        os.close(answer)
        self._unread = b""
        self._number = 0
        self._session = ""
        self.requested: list[str] = []
        self.told: list[str] = []
        target = self._ask("Target.createTarget", url="about:blank")["targetId"]
        self._session = self._ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Network", "Runtime", "Log"):
            self._ask(f"{domain}.enable")

    def open(self, path: Path, width: int = DESKTOP, scheme: str = "light") -> None:
        """Waits until the page has been drawn."""
        phone = width < 600
        self._ask("Emulation.setDeviceMetricsOverride", width=width, height=800, deviceScaleFactor=1, mobile=phone)
        self._ask("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        self._ask("Page.navigate", url=path.as_uri())
        self._until("document.readyState === 'complete' && location.protocol === 'file:'")
        self.run("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")

    def run(self, script: str) -> Any:
        """What the expression is worth in the page."""
        answer = self._ask("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def click(self, selector: str) -> None:
        """With the mouse, where the middle of the element is."""
        self.run(f"document.querySelector({selector!r}).scrollIntoView({{block: 'center', behavior: 'instant'}})")
        box = self.run(f"document.querySelector({selector!r}).getBoundingClientRect().toJSON()")
        place = {"x": box["x"] + box["width"] / 2, "y": box["y"] + box["height"] / 2, "button": "left", "clickCount": 1}
        for kind in ("mousePressed", "mouseReleased"):
            self._ask("Input.dispatchMouseEvent", type=kind, **place)

    def press(self, key: str) -> None:
        """On the keyboard."""
        for kind in ("keyDown", "keyUp"):
            self._ask("Input.dispatchKeyEvent", type=kind, key=key, text="\r" if key == "Enter" else "")

    def screenshot(self, *, whole: bool = False) -> bytes:
        """As PNG."""
        picture = self._ask("Page.captureScreenshot", format="png", captureBeyondViewport=whole)["data"]
        return base64.b64decode(picture)

    def close(self) -> None:
        """Chromium and what it started."""
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        os.close(self._asking)
        os.close(self._hearing)

    def _until(self, condition: str) -> None:
        deadline = time.monotonic() + 60
        while not self.run(condition):
            assert time.monotonic() < deadline, condition
            time.sleep(0.02)

    def _ask(self, method: str, **parameters: Any) -> dict[str, Any]:
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._asking, json.dumps(message).encode() + b"\0")
        while (answer := self._hear()).get("id") != self._number:
            self._note(answer)
        assert "error" not in answer, answer
        return dict(answer["result"])

    def _hear(self) -> dict[str, Any]:
        while b"\0" not in self._unread:
            heard = os.read(self._hearing, 1 << 20)
            assert heard, "chromium has gone"
            self._unread += heard
        message, _, self._unread = self._unread.partition(b"\0")
        return dict(json.loads(message))

    def _note(self, event: dict[str, Any]) -> None:
        parameters = event.get("params", {})
        if event.get("method") == "Network.requestWillBeSent":
            self.requested.append(parameters["request"]["url"])
        elif event.get("method") == "Runtime.exceptionThrown":
            self.told.append(str(parameters["exceptionDetails"]))
        elif event.get("method") == "Log.entryAdded":
            self.told.append(parameters["entry"]["text"])


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("no Chromium is installed (Debian: apt-get install chromium)")
    browser = Browser(tmp_path_factory.mktemp("chromium"))
    yield browser
    browser.close()


@pytest.fixture
def browser(chromium: Browser) -> Browser:
    chromium.requested.clear()
    chromium.told.clear()
    return chromium


@pytest.fixture
def written(make_profile: Callable[..., Profile], tmp_path: Path) -> Path:
    return profile_page.write(make_profile(), tmp_path)


def test_draft(browser: Browser, written: Path) -> None:
    for width in (DESKTOP, PHONE):
        for scheme in ("light", "dark"):
            browser.open(written, width, scheme)
            Path(f"/tmp/shots/{width}-{scheme}.png").write_bytes(browser.screenshot(whole=True))
    shutil.copy(written, "/tmp/shots/profile.html")
    print(browser.told, browser.requested)
