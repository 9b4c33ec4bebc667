"""The grammar of `sh -c`, as far as containers' commands use it.

Plays dash/ash. Parses text into a small tree; commands.py runs it. Knows lists (; & newline), && ||
!, pipelines, quotes, $VAR ${VAR} ${VAR:-word} $? $$ $(command) $((sum)), redirections, while until
for if case-free, { } and ( ). What it does not know raises Unsupported: the container then runs as
a service that lives until it is stopped.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

MAX_SCRIPT = 64 * 1024


class Unsupported(Exception):
    """This script needs a real shell."""


@dataclass(frozen=True, slots=True)
class Part:
    """A piece of a word: `kind` is text, var, command or sum; `default` is that of ${var:-...}."""

    kind: str
    text: str
    quoted: bool = False
    default: str = ""


Word = tuple[Part, ...]


@dataclass(frozen=True, slots=True)
class Simple:
    """A command with its assignments and redirections (descriptor, operator, target)."""

    assigns: tuple[tuple[str, Word], ...]
    words: tuple[Word, ...]
    redirects: tuple[tuple[int, str, Word], ...]


@dataclass(frozen=True, slots=True)
class Pipeline:
    nodes: tuple[Node, ...]
    negated: bool


@dataclass(frozen=True, slots=True)
class AndOr:
    first: Node
    rest: tuple[tuple[str, Node], ...]


@dataclass(frozen=True, slots=True)
class Loop:
    condition: Sequence
    body: Sequence
    until: bool


@dataclass(frozen=True, slots=True)
class For:
    name: str
    words: tuple[Word, ...]
    body: Sequence


@dataclass(frozen=True, slots=True)
class If:
    branches: tuple[tuple[Sequence, Sequence], ...]
    otherwise: Sequence | None


@dataclass(frozen=True, slots=True)
class Sequence:
    """Nodes in order; True behind one that runs in the background. Also { }."""

    nodes: tuple[tuple[Node, bool], ...]


@dataclass(frozen=True, slots=True)
class Subshell:
    """( ): `exit` leaves only this."""

    body: Sequence


Node = Simple | Pipeline | AndOr | Loop | For | If | Sequence | Subshell
_OPERATORS = ("&&", "||", ";;", ";", "&", "|", "(", ")", "\n")
_REDIRECT = re.compile(r"(\d?)(>>|>\||>&|<&|>|<)")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_ASSIGN = re.compile(r"[A-Za-z_][A-Za-z0-9_]*=")
_CLOSERS = {"done", "fi", "then", "do", "else", "elif", "}", ")"}


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str  # word, op, redirect, end
    text: str
    word: Word = ()
    fd: int = -1


def parse(script: str) -> Sequence:
    """Raises Unsupported."""
    if len(script) > MAX_SCRIPT:
        raise Unsupported("script too long")
    parser = _Parser(_tokens(script))
    tree = parser.sequence()
    if parser.peek().kind != "end":
        raise Unsupported(f"unexpected {parser.peek().text!r}")
    return tree


def _tokens(script: str) -> list[_Token]:
    tokens: list[_Token] = []
    at, size = 0, len(script)
    while at < size:
        char = script[at]
        if char in " \t":
            at += 1
        elif script.startswith("\\\n", at):
            at += 2
        elif char == "#":
            newline = script.find("\n", at)
            at = size if newline < 0 else newline
        elif script.startswith("<<", at):
            raise Unsupported("here-documents")
        elif redirect := _REDIRECT.match(script, at):
            fd, operator = redirect.groups()
            tokens.append(
                _Token("redirect", operator, fd=int(fd) if fd else (0 if operator[0] == "<" else 1))
            )
            at = redirect.end()
        elif operator_found := next((o for o in _OPERATORS if script.startswith(o, at)), None):
            tokens.append(_Token("op", operator_found))
            at += len(operator_found)
        else:
            word, end = _word(script, at)
            tokens.append(_Token("word", script[at:end], word))
            at = end
    tokens.append(_Token("end", ""))
    return tokens


def _word(script: str, at: int) -> tuple[Word, int]:
    parts: list[Part] = []
    size = len(script)
    while at < size and script[at] not in " \t\n;&|()<>":
        char = script[at]
        if char == "'":
            end = script.find("'", at + 1)
            if end < 0:
                raise Unsupported("unterminated quote")
            parts.append(Part("text", script[at + 1 : end], True))
            at = end + 1
        elif char == '"':
            at = _double_quoted(script, at + 1, parts)
        elif char == "$":
            part, at = _dollar(script, at, False)
            parts.append(part)
        elif char == "`":
            end = script.find("`", at + 1)
            if end < 0:
                raise Unsupported("unterminated backquote")
            parts.append(Part("command", script[at + 1 : end]))
            at = end + 1
        elif char == "\\" and at + 1 < size:
            parts.append(Part("text", script[at + 1], True))
            at += 2
        else:
            end = at + 1
            while end < size and script[end] not in " \t\n;&|()<>'\"$`\\":
                end += 1
            parts.append(Part("text", script[at:end]))
            at = end
    return tuple(parts), at


def _double_quoted(script: str, at: int, parts: list[Part]) -> int:
    text = ""
    parts.append(Part("text", "", True))
    while at < len(script):
        char = script[at]
        if char == '"':
            parts.append(Part("text", text, True))
            return at + 1
        if char == "\\" and at + 1 < len(script) and script[at + 1] in '"\\$`\n':
            text += "" if script[at + 1] == "\n" else script[at + 1]
            at += 2
        elif char == "$":
            parts.append(Part("text", text, True))
            text = ""
            part, at = _dollar(script, at, True)
            parts.append(part)
        else:
            text += char
            at += 1
    raise Unsupported("unterminated quote")


def _dollar(script: str, at: int, quoted: bool) -> tuple[Part, int]:
    rest = script[at + 1 : at + 3]
    if rest == "((":
        end = script.find("))", at)
        if end < 0:
            raise Unsupported("unterminated $((")
        return Part("sum", script[at + 3 : end], quoted), end + 2
    if rest[:1] == "(":
        end = _closing(script, at + 2)
        return Part("command", script[at + 2 : end], quoted), end + 1
    if rest[:1] == "{":
        end = script.find("}", at)
        name, sign, default = script[at + 2 : end].partition(":-")
        if end < 0 or _NAME.fullmatch(name) is None or (not sign and ":" in name):
            raise Unsupported("parameter expansion")
        return Part("var", name, quoted, default), end + 1
    if rest[:1] and rest[0] in "?$#@*0123456789!":
        return Part("var", rest[0], quoted), at + 2
    name_found = _NAME.match(script, at + 1)
    if name_found is None:
        return Part("text", "$", True), at + 1
    return Part("var", name_found.group(), quoted), name_found.end()


def _closing(script: str, at: int) -> int:
    depth = 1
    while at < len(script):
        if script[at] == "'":
            at = script.find("'", at + 1)
            if at < 0:
                break
        elif script[at] == "(":
            depth += 1
        elif script[at] == ")":
            depth -= 1
            if depth == 0:
                return at
        at += 1
    raise Unsupported("unterminated $(")


class _Parser:
    def __init__(self, tokens: list[_Token]) -> None:
        self._tokens = tokens
        self._at = 0

    def peek(self) -> _Token:
        return self._tokens[self._at]

    def sequence(self) -> Sequence:
        nodes: list[tuple[Node, bool]] = []
        while True:
            while self._is_op(";") or self._is_op("\n"):
                self._at += 1
            token = self.peek()
            closes = (
                token.kind == "end"
                or self._is_op(")")
                or (token.kind == "word" and token.text in _CLOSERS)
            )
            if closes:
                return Sequence(tuple(nodes))
            node = self._and_or()
            background = self._is_op("&")
            nodes.append((node, background))
            if background or self._is_op(";") or self._is_op("\n"):
                self._at += 1

    def _and_or(self) -> Node:
        first = self._pipeline()
        rest: list[tuple[str, Node]] = []
        while self._is_op("&&") or self._is_op("||"):
            operator = self._take().text
            self._skip_lines()
            rest.append((operator, self._pipeline()))
        return AndOr(first, tuple(rest)) if rest else first

    def _pipeline(self) -> Node:
        negated = self.peek().kind == "word" and self.peek().text == "!"
        if negated:
            self._at += 1
        nodes = [self._command()]
        while self._is_op("|"):
            self._at += 1
            self._skip_lines()
            nodes.append(self._command())
        return nodes[0] if len(nodes) == 1 and not negated else Pipeline(tuple(nodes), negated)

    def _command(self) -> Node:
        token = self.peek()
        if self._is_op("("):
            self._at += 1
            body = self.sequence()
            self._need_op(")")
            return Subshell(body)
        if token.kind == "word":
            if token.text in ("while", "until"):
                self._at += 1
                condition = self.sequence()
                return Loop(condition, self._do_done(), token.text == "until")
            if token.text == "for":
                return self._for()
            if token.text == "if":
                return self._if()
            if token.text == "{":
                self._at += 1
                body = self.sequence()
                self._need("}")
                return body
            if token.text in ("case", "function", "[[", "select"):
                raise Unsupported(token.text)
        return self._simple()

    def _do_done(self) -> Sequence:
        self._skip_lines()
        self._need("do")
        body = self.sequence()
        self._need("done")
        return body

    def _for(self) -> Node:
        self._at += 1
        name = self._take().text
        words: list[Word] = []
        if self.peek().text == "in":
            self._at += 1
            while self.peek().kind == "word":
                words.append(self._take().word)
        if self._is_op(";"):
            self._at += 1
        return For(name, tuple(words), self._do_done())

    def _if(self) -> Node:
        branches: list[tuple[Sequence, Sequence]] = []
        otherwise: Sequence | None = None
        while self.peek().text in ("if", "elif"):
            self._at += 1
            condition = self.sequence()
            self._need("then")
            branches.append((condition, self.sequence()))
        if self.peek().text == "else":
            self._at += 1
            otherwise = self.sequence()
        self._need("fi")
        return If(tuple(branches), otherwise)

    def _simple(self) -> Simple:
        assigns: list[tuple[str, Word]] = []
        words: list[Word] = []
        redirects: list[tuple[int, str, Word]] = []
        while True:
            token = self.peek()
            if token.kind == "redirect":
                self._at += 1
                target = self._take()
                if target.kind != "word":
                    raise Unsupported("redirection")
                redirects.append((token.fd, token.text, target.word))
            elif token.kind == "word":
                self._at += 1
                assign = _ASSIGN.match(token.text)
                if not words and assign and token.word and token.word[0].kind == "text":
                    name = assign.group()[:-1]
                    first = token.word[0]
                    rest = Part("text", first.text[len(name) + 1 :], first.quoted)
                    assigns.append((name, (rest, *token.word[1:])))
                else:
                    words.append(token.word)
            else:
                break
        if not words and not assigns and not redirects:
            raise Unsupported(f"unexpected {self.peek().text!r}")
        return Simple(tuple(assigns), tuple(words), tuple(redirects))

    def _take(self) -> _Token:
        token = self._tokens[self._at]
        self._at += 1
        return token

    def _is_op(self, text: str) -> bool:
        token = self._tokens[self._at]
        return token.kind == "op" and token.text == text

    def _skip_lines(self) -> None:
        while self._is_op("\n") or self._is_op(";"):
            self._at += 1

    def _need(self, word: str) -> None:
        token = self._take()
        if token.kind != "word" or token.text != word:
            raise Unsupported(f"expected {word}")

    def _need_op(self, text: str) -> None:
        if not self._is_op(text):
            raise Unsupported(f"expected {text}")
        self._at += 1
