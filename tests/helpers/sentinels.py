"""A master, a replica and three Sentinels, on ports of the loopback."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

import redis

from helpers.faults import Node
from helpers.servers import free_port
from helpers.tls import Certificates

SERVICE = "shop"


class Sentinels:
    """What watches over a master, and what it watches over."""

    def __init__(self, executable: str, directory: Path, tls: Certificates | None = None) -> None:
        for name in ("0", "1", "s0", "s1", "s2"):
            (directory / name).mkdir(parents=True)
        self.master = Node(executable, directory / "0", tls)
        self.replica = Node(executable, directory / "1", tls)
        self._tls = tls
        self.ports = [free_port() for _ in range(3)]
        self._executable, self._directory = executable, directory
        self._processes: list[subprocess.Popen[bytes]] = []

    @property
    def url(self) -> str:
        return "redis+sentinel://" + ",".join(f"127.0.0.1:{port}" for port in self.ports) + f"/{SERVICE}"

    def start(self) -> None:
        self.master.start()
        self.replica.start()
        self.replica.client.replicaof("127.0.0.1", str(self.master.port))
        for index, port in enumerate(self.ports):
            config = self._directory / f"s{index}" / "sentinel.conf"
            listens = {"port": port} if self._tls is None else self._tls.of_server(port)
            config.write_text(
                "".join(f"{name.replace('_', '-')} {value}\n" for name, value in listens.items())
                + f"bind 127.0.0.1\ndir {config.parent}\n"
                f"sentinel monitor {SERVICE} 127.0.0.1 {self.master.port} 2\n"
                f"sentinel down-after-milliseconds {SERVICE} 700\n"
                f"sentinel failover-timeout {SERVICE} 3000\n"
            )
            command = [self._executable, str(config), "--sentinel"]
            self._processes.append(subprocess.Popen(command, stdout=subprocess.DEVNULL))
        self.wait_until(lambda found: found["num-other-sentinels"] == 2 and found["num-slaves"] == 1)

    def wait_until(self, holds: object) -> None:
        """Wait until something holds of what each Sentinel knows of the master."""
        deadline = time.monotonic() + 30
        for port in self.ports:
            while True:
                try:
                    options = {} if self._tls is None else {"ssl": True, **self._tls.of_client}
                    found = redis.Redis(port=port, **options).sentinel_master(SERVICE)
                except redis.RedisError:
                    found = None
                if found is not None and holds(found):  # type: ignore[operator]
                    break
                assert time.monotonic() < deadline, found
                time.sleep(0.05)

    def close(self) -> None:
        for process in self._processes:
            process.kill()
            process.wait(30)
        for node in (self.master, self.replica):
            node.close()
