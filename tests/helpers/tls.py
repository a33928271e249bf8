"""Certificates of the tests' own, for servers that speak TLS and for their clients."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import trustme


class Certificates:
    """An authority, what it signed for servers and for clients, and an authority that nobody knows.

    Args:
        directory: of the files.
        names: of the servers, instead of those on the loopback.
        until: when what was signed expires; None = never.

    Attributes:
        of_client: options with which a client trusts the servers, and is trusted; TLS itself is asked for by
            ``ssl=True`` or a URL.
        strange: the certificate of the other authority, in a file.
        trusting: of the options only those by which servers are trusted.
    """

    def __init__(self, directory: Path, *names: str, until: datetime | None = None) -> None:
        authority = trustme.CA()
        self._authority = str(directory / "ca.pem")
        authority.cert_pem.write_to_path(self._authority)
        self.strange = str(directory / "strange.pem")
        trustme.CA().cert_pem.write_to_path(self.strange)
        issued = authority.issue_cert(*(names or ("127.0.0.1", "localhost")), not_after=until)
        self._pair = [str(directory / name) for name in ("cert.pem", "key.pem")]
        issued.cert_chain_pems[0].write_to_path(self._pair[0])
        issued.private_key_pem.write_to_path(self._pair[1])
        self.trusting = {"ssl_ca_certs": self._authority}
        self.of_client: dict[str, Any] = {
            **self.trusting,
            **dict(zip(("ssl_certfile", "ssl_keyfile"), self._pair, strict=True)),
        }

    def of_server(self, port: int) -> dict[str, object]:
        """The configuration of a server that speaks TLS alone, to others too, and wants it of clients."""
        certificate, key = self._pair
        return {
            "port": 0,
            "tls_port": port,
            "tls_cert_file": certificate,
            "tls_key_file": key,
            "tls_ca_cert_file": self._authority,
            "tls_replication": "yes",
            "tls_cluster": "yes",
        }
