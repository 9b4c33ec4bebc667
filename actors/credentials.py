"""Certificates on their way from the plan to an actor: files of mode 0600 in its state directory
(TLS libraries read files), and client connections made of them.
"""

from __future__ import annotations

import ssl
from pathlib import Path

from actors import paths
from actors.context import Credential


class CredentialFiles:
    """`ca`, `cert`, `key` as paths."""

    def __init__(self, credential: Credential, directory: Path) -> None:
        paths.private_dir(directory)
        self.ca, self.cert, self.key = (
            directory / name for name in ("ca.crt", "tls.crt", "tls.key")
        )
        paths.write_private(self.ca, credential.ca.decode())
        paths.write_private(self.cert, credential.cert.decode())
        paths.write_private(self.key, credential.key.decode())


def client_context(credential: Credential, directory: Path) -> ssl.SSLContext:
    """TLS to the API server as this identity; the server must be of our CA."""
    files = CredentialFiles(credential, directory)
    context = ssl.create_default_context(cafile=str(files.ca))
    context.load_cert_chain(str(files.cert), str(files.key))
    return context
