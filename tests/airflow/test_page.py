"""What a person sees: pages of the user interface in a real browser, kept as pictures in build/screenshots."""

import html
import re
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

PICTURES = Path(__file__).parents[2] / "build" / "screenshots"
OPTIONS = [
    *["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"],
    *["--disable-background-networking", "--disable-component-update", "--window-size=1500,950"],
    "--virtual-time-budget=20000",
]


@pytest.fixture
def door(airflow, api):
    """Sends a browser that comes to it on to Airflow, logged in: a cookie belongs to a host, whatever the port."""

    class Door(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(302)
            self.send_header("Set-Cookie", f"_token={api.token}; Path=/")
            self.send_header("Location", airflow.url + self.path)
            self.end_headers()

        def log_message(self, *_):
            pass

    with HTTPServer(("127.0.0.1", 0), Door) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture
def browse(door, tmp_path):
    """Opens a path in a fresh browser, keeps a picture of it, and returns the page's text."""

    def open_page(path, picture):
        PICTURES.mkdir(parents=True, exist_ok=True)
        file = PICTURES / f"{picture}.png"
        file.unlink(missing_ok=True)
        command = [
            "chromium",
            *OPTIONS,
            f"--user-data-dir={tmp_path}",
            f"--screenshot={file}",
            "--dump-dom",
            door + path,
        ]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
        assert file.stat().st_size > 10_000
        return html.unescape(
            re.sub(r"<[^>]+>", " ", re.sub(r"<(script|style).*?</\1>", " ", done.stdout, flags=re.DOTALL))
        )

    return open_page


def test_the_page_of_a_dag_shows_its_tasks_and_their_states(api, bundle, browse):
    bundle.land("a", 90)
    api.unpause("a")
    run = api.trigger("a")
    api.await_run("a", run, "success")
    text = browse(f"/dags/a/runs/{run}", "dag-run")
    for word in ("Rows that land", "publish", "Success"):
        assert word in text, text
