"""A headless Chromium for tests of pages, one for all of a process's tests: each start costs seconds."""

from __future__ import annotations

import base64
import fcntl
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
DESKTOP, PHONE = 1280, 360


class Browser:
    """A headless Chromium, driven through DevTools' protocol over a pipe; notes every address that it asks for."""

    def __init__(self, folder: Path) -> None:
        ask, self._asking = map(above_the_protocols, os.pipe())
        self._hearing, answer = map(above_the_protocols, os.pipe())
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
        self.messages: list[str] = []
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
        self._drawn()

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

    def type(self, text: str) -> None:
        """Into what has the focus."""
        self._ask("Input.insertText", text=text)

    def resize(self, width: int) -> None:
        """As a window is, the page staying open."""
        self._ask("Emulation.setDeviceMetricsOverride", width=width, height=800, deviceScaleFactor=1, mobile=False)
        self._drawn()

    def press(self, key: str) -> None:
        """On the keyboard."""
        for kind in ("keyDown", "keyUp"):
            self._ask("Input.dispatchKeyEvent", type=kind, key=key, text="\r" if key == "Enter" else "")

    def how_many(self, selector: str) -> int:
        """Elements that there are."""
        return int(self.run(f"document.querySelectorAll({selector!r}).length"))

    def column(self, table: str, number: int) -> list[str]:
        """What stands in the rows that are shown."""
        rows = f"document.querySelectorAll('#table-{table} tbody tr:not([hidden])')"
        return list(self.run(f"[...{rows}].map(row => row.cells[{number}].innerText.trim())"))

    def scrolls_sideways(self) -> bool:
        """Whether the page is wider than its window."""
        return bool(self.run("document.documentElement.scrollWidth > document.documentElement.clientWidth"))

    def colours(self) -> dict[str, str]:
        """Of the page's scheme, by their names."""
        return dict(self.run(COLOURS))

    @staticmethod
    def luminance(colour: str) -> float:
        """By WCAG."""
        channels = [int(colour.strip()[at : at + 2], 16) / 255 for at in (1, 3, 5)]
        red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels)
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    @staticmethod
    def contrast(item: str, other: str) -> float:
        """By WCAG: 4.5 is enough for text, 3 for marks."""
        low, high = sorted(map(Browser.luminance, (item, other)))
        return (high + 0.05) / (low + 0.05)

    def picture(self, selector: str = "", height: int = 800) -> bytes:
        """A PNG of what begins at an element, so high; of the window's first screen when none is named."""
        top = (
            self.run(f"document.querySelector({selector!r}).getBoundingClientRect().top + scrollY - 12")
            if selector
            else 0
        )
        width = self.run("innerWidth")
        clip = {"x": 0, "y": max(0, top), "width": width, "height": height, "scale": 1}
        result = self._ask("Page.captureScreenshot", format="png", clip=clip, captureBeyondViewport=True)
        return base64.b64decode(result["data"])

    def close(self) -> None:
        """Chromium and what it started."""
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        os.close(self._asking)
        os.close(self._hearing)

    def _drawn(self) -> None:
        self.run("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")

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
            self.messages.append(str(parameters["exceptionDetails"]))
        elif event.get("method") == "Log.entryAdded":
            self.messages.append(parameters["entry"]["text"])


def above_the_protocols(descriptor: int) -> int:
    """DevTools' protocol is spoken over 3 and 4, which the shell puts in place; one of ours there would be closed."""
    higher = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, 10)
    os.close(descriptor)
    return higher


@pytest.fixture(scope="session")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("no Chromium is installed (Debian: apt-get install chromium)")
    browser = Browser(tmp_path_factory.mktemp("chromium"))
    yield browser
    browser.close()


@pytest.fixture
def browser(chromium: Browser) -> Browser:
    chromium.requested.clear()
    chromium.messages.clear()
    return chromium


COLOURS = """(() => { const style = getComputedStyle(document.documentElement);
    return Object.fromEntries([...document.styleSheets[0].cssRules].filter(rule => rule.selectorText === ':root')
        .flatMap(rule => [...rule.style]).filter(name => name.startsWith('--'))
        .map(name => [name.slice(2), style.getPropertyValue(name)])); })()"""
