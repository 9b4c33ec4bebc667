"""Ray's access token, set before Ray is imported: Ray reads its environment only then.

A user's own token (RAY_AUTH_TOKEN, RAY_AUTH_TOKEN_PATH, ~/.ray/auth_token) is used as it is.
Without one, a token of our own lies beside the ledgers, mode 0600, and ends with the Ray that we
started.
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from actors import paths

_CALM = {
    "RAY_gcs_rpc_server_reconnect_timeout_s": "30",
    "RAY_USAGE_STATS_ENABLED": "0",
}


def token_path() -> Path:
    return paths.run_root() / "ray_token"


def prepare() -> None:
    """Call before anything imports Ray."""
    for name, value in _CALM.items():
        os.environ.setdefault(name, value)
    given = os.environ.get("RAY_AUTH_TOKEN") or os.environ.get("RAY_AUTH_TOKEN_PATH")
    if given or (Path.home() / ".ray" / "auth_token").exists():
        os.environ.setdefault("RAY_AUTH_MODE", "token")
        return
    path = token_path()
    if not path.exists():
        paths.private_dir(paths.run_root())
        paths.write_private(path, secrets.token_hex(32))
    os.environ["RAY_AUTH_TOKEN_PATH"] = str(path)
    os.environ["RAY_AUTH_MODE"] = "token"
