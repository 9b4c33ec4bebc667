"""Errors that end a command: one line that says what to do."""

from __future__ import annotations


class UserError(Exception):
    """The command cannot go on; the message is for the person at the terminal."""
