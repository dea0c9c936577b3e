"""A headless Chromium, driven over the DevTools protocol."""

import base64
import itertools
import json
import re
import shutil
import subprocess
import threading
import time
import urllib.request
from pathlib import Path

from websockets.sync.client import connect

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
PATIENCE = 90
CODES = {"Enter": 13, "Escape": 27, "ArrowLeft": 37, "ArrowRight": 39}


class Page:
    """One tab. `complaints` are errors and warnings of its console, exceptions and failed requests."""

    def __init__(self, address):
        self.socket = connect(address, max_size=None, open_timeout=PATIENCE)
        self.numbers = itertools.count(1)
        self.complaints = []
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method, **parameters):
        number = next(self.numbers)
        self.socket.send(json.dumps({"id": number, "method": method, "params": parameters}))
        while True:
            message = json.loads(self.socket.recv(timeout=PATIENCE))
            if message.get("id") == number:
                assert "error" not in message, f"{method}: {message['error']}"
                return message["result"]
            self.note(message)

    def note(self, message):
        parameters = message.get("params", {})
        match message.get("method"):
            case "Runtime.exceptionThrown":
                self.complaints.append(json.dumps(parameters["exceptionDetails"]))
            case "Runtime.consoleAPICalled" if parameters["type"] in ("error", "warning", "assert"):
                self.complaints.append(json.dumps(parameters["args"]))
            case "Log.entryAdded" if parameters["entry"]["level"] in ("error", "warning"):
                self.complaints.append(json.dumps(parameters["entry"]))

    def open(self, address):
        self.call("Page.navigate", url=address)

    def run(self, expression):
        """The value of an expression in the page."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, f"{expression}: {answer['exceptionDetails']}"
        return answer["result"].get("value")

    def wait(self, expression, what=""):
        """Until an expression is true in the page."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            try:
                if found := self.run(expression):
                    return found
            except AssertionError:
                pass  # The page is just being loaded.
            time.sleep(0.1)
        raise AssertionError(f"{what or expression} does not come true: {self.text()}")

    def text(self):
        return self.run("document.body.innerText")

    def look(self, width, height, dark=False, phone=False):
        """The size of the window, and the colours that the user prefers."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height,
                  deviceScaleFactor=2 if phone else 1, mobile=phone)
        self.call("Emulation.setEmulatedMedia",
                  features=[{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}])

    def key(self, key):
        for kind in ("keyDown", "keyUp"):
            text = {"text": key} if len(key) == 1 and kind == "keyDown" else {}
            code = {"windowsVirtualKeyCode": CODES[key], "code": key} if key in CODES else {}
            self.call("Input.dispatchKeyEvent", type=kind, key=key, **text, **code)

    def drag(self, selector, part_from, part_to):
        """From one part of an element's width to another."""
        box = self.run(f"(() => {{ const e = document.querySelector({json.dumps(selector)});"
                       "e.scrollIntoView({block: 'center'}); const r = e.getBoundingClientRect();"
                       "return [r.x, r.y, r.width, r.height]; })()")
        x = [box[0] + box[2] * part for part in (part_from, part_to)]
        y = box[1] + box[3] / 2
        for kind, at in (("mouseMoved", x[0]), ("mousePressed", x[0]), ("mouseMoved", (x[0] + x[1]) / 2),
                         ("mouseMoved", x[1]), ("mouseReleased", x[1])):
            held = {} if kind == "mouseMoved" and at == x[0] else {"button": "left", "buttons": 1, "clickCount": 1}
            self.call("Input.dispatchMouseEvent", type=kind, x=at, y=y, **held)

    def picture(self, path, whole=False):
        taken = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        Path(path).write_bytes(base64.b64decode(taken["data"]))
        return Path(path)


class Browser:
    """The browser, with a profile that is thrown away, and more options than the usual ones."""

    def __init__(self, folder, *options):
        self.process = subprocess.Popen(
            [CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
             "--disable-background-networking", "--disable-component-update", "--mute-audio", "--hide-scrollbars",
             "--remote-debugging-port=0", f"--user-data-dir={folder}", *options,
             "about:blank"],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        said = ""
        for line in self.process.stderr:
            said += line
            if found := re.search(r"DevTools listening on ws://([^/]+)/", line):
                self.address = found[1]
                break
        else:
            raise AssertionError(f"chromium does not start: {said}")
        # Nobody reads on; what it says goes nowhere, but must not fill the pipe.
        threading.Thread(target=lambda: [None for _ in self.process.stderr], daemon=True).start()

    def page(self):
        request = urllib.request.Request(f"http://{self.address}/json/new?about:blank", method="PUT")
        with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
            return Page(json.load(answer)["webSocketDebuggerUrl"])

    def close(self):
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
