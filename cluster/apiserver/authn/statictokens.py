"""--token-auth-file: CSV lines `token,user,uid,"group1,group2"`."""

from __future__ import annotations

import csv
from pathlib import Path

from cluster.apiserver.attributes import UserInfo
from cluster.apiserver.authn.groups import ALL_AUTHENTICATED


def read_token_file(path: Path) -> dict[str, UserInfo]:
    """token -> user. Raises OSError, or ValueError that names the line and never the token."""
    users: dict[str, UserInfo] = {}
    with Path(path).open(newline="") as file:
        for number, row in enumerate(csv.reader(file), 1):
            if not row or row[0].startswith("#"):
                continue
            if len(row) < 3:
                raise ValueError(f"{path}:{number}: needs at least token, user name and user id")
            token, name, uid = (column.strip() for column in row[:3])
            if not token:
                continue
            groups = [g.strip() for g in row[3].split(",") if g.strip()] if len(row) > 3 else []
            users[token] = UserInfo(name, (*groups, ALL_AUTHENTICATED), uid)
    return users
