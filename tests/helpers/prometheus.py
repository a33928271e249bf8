"""Debian's Prometheus and its node_exporter, started on ports of their own; services that they scrape."""

from __future__ import annotations

import json
import shutil
import subprocess
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from wsgiref.simple_server import WSGIRequestHandler, make_server

from prometheus_client import CollectorRegistry, make_wsgi_app

from helpers.servers import eventually, free_port, missing

CONFIG = """
global: {{scrape_interval: 100ms, scrape_timeout: 100ms}}
scrape_configs: [{{job_name: service, static_configs: [{{targets: ["127.0.0.1:{port}"]}}]}}]
"""


def installed(name: str) -> str:
    """A program; where it is missing, skip at a desk, fail in CI."""
    return shutil.which(name) or missing(f"Debian's {name}")


def promtool(*arguments: object, text: str | None = None) -> str:
    """What promtool says; it fails if something is wrong."""
    done = subprocess.run(
        [installed("promtool"), *map(str, arguments)], input=text, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def fetched(url: str) -> str:
    with urllib.request.urlopen(url, timeout=30) as answer:  # noqa: S310 (of this machine)
        return answer.read().decode()


@contextmanager
def running(*command: object, until: str, log: Path) -> Iterator[None]:
    """A program, from when it answers at an address until the end of the block."""
    with log.open("w") as file:
        process = subprocess.Popen(list(map(str, command)), stdout=file, stderr=subprocess.STDOUT)
    try:
        eventually(lambda: process.poll() is not None or answers(until))
        assert process.poll() is None, log.read_text()
        yield
    finally:
        process.kill()
        process.wait()


def answers(url: str) -> bool:
    try:
        return bool(fetched(url))
    except OSError:
        return False


class _Quiet(WSGIRequestHandler):
    def log_message(self, *_arguments: object) -> None:
        pass


@contextmanager
def serving(registry: CollectorRegistry) -> Iterator[int]:
    """A service that answers scrapes, and its port."""
    with make_server("127.0.0.1", 0, make_wsgi_app(registry), handler_class=_Quiet) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


class Prometheus:
    """One that scrapes a service ten times a second."""

    def __init__(self, url: str) -> None:
        self.url = url

    @classmethod
    @contextmanager
    def of(cls, service: int, folder: Path) -> Iterator[Prometheus]:
        """Scrapes what listens on a port."""
        url = f"http://127.0.0.1:{free_port()}"
        config = folder / "prometheus.yml"
        config.write_text(CONFIG.format(port=service))
        command = [
            installed("prometheus"),
            f"--config.file={config}",
            f"--storage.tsdb.path={folder / 'data'}",
            f"--web.listen-address={url.removeprefix('http://')}",
        ]
        with running(*command, until=f"{url}/-/ready", log=folder / "prometheus.log"):
            found = cls(url)
            eventually(lambda: found.scrapes() >= 3)
            yield found

    def scrapes(self) -> int:
        """How many there have been."""
        found = self.query('count_over_time(up{job="service"}[1h])')
        return int(found[0]["value"][1]) if found else 0

    def query(self, expression: str) -> list[dict[str, Any]]:
        """The series of an expression, with their newest values."""
        return self.ask("query", query=expression)["result"]

    def ask(self, what: str, **parameters: str) -> Any:
        answer = json.loads(fetched(f"{self.url}/api/v1/{what}?{urlencode(parameters)}"))
        assert answer["status"] == "success", answer
        return answer["data"]
