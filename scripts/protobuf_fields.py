#!/usr/bin/env python3
"""Write cluster/api/protobuf_fields.json: the protobuf field numbers of Kubernetes' API types.

    scripts/protobuf_fields.py .venv/bin/kubectl

kubectl and Go controllers send built-in types as protobuf. The numbers are facts of the wire
format; every Go program that speaks it carries them as struct tags in its type information, where
this script reads them: for each struct of k8s.io/api and apimachinery its fields with JSON name,
number, kind, and whether it is a pointer (then a zero is a value, not an absence). Needs a binary
that is linked at fixed addresses, as kubectl's are.
"""

from __future__ import annotations

import collections
import json
import re
import struct
import sys
from pathlib import Path
from typing import Any

import numpy as np

OUT = Path(__file__).resolve().parent.parent / "cluster" / "api" / "protobuf_fields.json"
STRUCT, POINTER, SLICE, MAP = 25, 22, 23, 21
SCALARS = {1: "t", 24: "s", 13: "d", 14: "d"} | dict.fromkeys(range(2, 12), "i")
TAG = re.compile(rb'(?:json:"[^"]*" )?(?:patch\w+:"[^"]*" )*protobuf:"[^"]+"')
WANTED = re.compile(r"k8s\.io/(?:api/([a-z0-9]+/v\w+)|apimachinery/pkg/apis/(meta/v1))$")


class GoBinary:
    """The type information of one Go program (internal/abi/type.go has the layouts)."""

    def __init__(self, path: Path) -> None:
        self.data = path.read_bytes()
        (at,) = struct.unpack_from("<Q", self.data, 32)
        size, count = struct.unpack_from("<HH", self.data, 54)
        headers = [struct.unpack_from("<IIQQQQQQ", self.data, at + i * size) for i in range(count)]
        self.segments = [(h[3], h[3] + h[5], h[2]) for h in headers if h[0] == 1]
        self.types = 0

    def offset(self, address: int) -> int:
        for low, high, at in self.segments:
            if low <= address < high:
                return at + address - low
        raise ValueError(hex(address))

    def address(self, offset: int) -> int:
        for low, high, at in self.segments:
            if at <= offset < at + high - low:
                return low + offset - at
        raise ValueError(offset)

    def word(self, address: int) -> int:
        return int(struct.unpack_from("<Q", self.data, self.offset(address))[0])

    def kind(self, type_: int) -> int:
        return self.data[self.offset(type_) + 23] & 31

    def name(self, address: int) -> tuple[str, str]:
        """A name and its tag."""
        at = self.offset(address)
        flags = self.data[at]
        size, at = self._varint(at + 1)
        name, tag = self.data[at : at + size], b""
        if flags & 2:
            length, start = self._varint(at + size)
            tag = self.data[start : start + length]
        return name.decode(errors="replace"), tag.decode(errors="replace")

    def type_name(self, type_: int) -> tuple[str, str]:
        """Package path and name of a struct type."""
        at = self.offset(type_)
        name, _ = self.name(self.types + struct.unpack_from("<i", self.data, at + 40)[0])
        package = ""
        if self.data[at + 20] & 1:
            (path,) = struct.unpack_from("<i", self.data, at + 80)
            package = self.name(self.types + path)[0] if path else ""
        return package, name.lstrip("*").rpartition(".")[2]

    def structs(self) -> dict[int, tuple[int, int]]:
        """Struct types with a protobuf tag: address of the type -> (fields, how many)."""
        tagged = self._tagged_names()
        found: dict[int, tuple[int, int]] = {}
        used: set[int] = set()
        for low, high, at in self.segments:
            words = np.frombuffer(self.data, "<u8", (high - low) // 8, at)
            for i in np.nonzero(np.isin(words, np.fromiter(tagged, "u8")))[0]:
                used.add(low + int(i) * 8)
        for low, high, at in self.segments:
            words = np.frombuffer(self.data, "<u8", (high - low) // 8, at)
            pointer, length, capacity = words[:-2], words[1:-1], words[2:]
            for i in np.nonzero((length == capacity) & (length > 0) & (length < 200))[0]:
                fields, count = int(pointer[i]), int(length[i])
                type_ = low + int(i) * 8 - 56
                if (
                    any(fields + 24 * k in used for k in range(count))
                    and self.kind(type_) == STRUCT
                ):
                    found[type_] = fields, count
        self._find_names(found)
        return found

    def _tagged_names(self) -> set[int]:
        names = set()
        for match in TAG.finditer(self.data):
            for back in (1, 2):
                length, after = self._varint(match.start() - back)
                if after != match.start() or length < len(match.group()):
                    continue
                end = match.start() - back
                for size in range(1, 80):
                    at = end - size - 2
                    if self.data[at + 1] == size and self.data[at] & 2 and self.data[at] < 16:
                        names.add(self.address(at))
                        break
        return names

    def _find_names(self, structs: dict[int, tuple[int, int]]) -> None:
        """Where name offsets count from: the place that makes one known struct's name right."""
        votes: collections.Counter[int] = collections.Counter()
        for match in re.finditer(rb"[\x00-\x0f]\x0b\*v1\.PodSpec", self.data):
            for type_, (fields, count) in structs.items():
                if count > 35 and self.name(self.word(fields))[0] == "Volumes":
                    (offset,) = struct.unpack_from("<i", self.data, self.offset(type_) + 40)
                    votes[self.address(match.start()) - offset] += 1
        self.types = votes.most_common(1)[0][0]

    def _varint(self, at: int) -> tuple[int, int]:
        value = shift = 0
        while True:
            byte = self.data[at]
            at += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value, at


def describe(go: GoBinary, type_: int) -> list[str]:
    """A field's kind in the table's letters: see cluster/api/protobuf.py."""
    kind = go.kind(type_)
    if kind == POINTER:
        letters, *rest = describe(go, go.word(type_ + 48))
        return ["*" + letters.lstrip("*"), *rest]
    if kind == SLICE:
        element = go.word(type_ + 48)
        if go.kind(element) == 8:
            return ["b"]
        letters, *rest = describe(go, element)
        return ["[" + letters.lstrip("*"), *rest]
    if kind == MAP:
        letters, *rest = describe(go, go.word(type_ + 56))
        return ["{" + letters.lstrip("*"), *rest]
    if kind == STRUCT:
        package, name = go.type_name(type_)
        return ["m", f"{short(package)}.{name}"]
    return [SCALARS.get(kind, "?")]


def short(package: str) -> str:
    match = WANTED.match(package)
    return (match[1] or match[2]) if match else package.rpartition("/")[2]


def table(go: GoBinary) -> dict[str, dict[str, list[Any]]]:
    found: dict[str, dict[str, list[Any]]] = {}
    for type_, (fields, count) in go.structs().items():
        package, name = go.type_name(type_)
        if not WANTED.match(package):
            continue
        rows: dict[str, list[Any]] = {}
        for i in range(count):
            _, tag = go.name(go.word(fields + 24 * i))
            number = re.search(r'protobuf:"\w+,(\d+),', tag)
            json_name = re.search(r'json:"([^"]*)"', tag)
            if not number or not json_name:
                continue
            label, *options = json_name[1].split(",")
            letters, *rest = describe(go, go.word(fields + 24 * i + 8))
            if "omitempty" not in options and letters in ("s", "t", "i", "d"):
                letters = "*" + letters
            rows[number[1]] = ["" if "inline" in options else label, letters, *rest]
        if rows:
            found[f"{short(package)}.{name}"] = dict(sorted(rows.items(), key=lambda r: int(r[0])))
    return dict(sorted(found.items()))


def main() -> None:
    found = table(GoBinary(Path(sys.argv[1])))
    lines = [f"{json.dumps(k)}: {json.dumps(v, separators=(',', ':'))}" for k, v in found.items()]
    OUT.write_text("{\n" + ",\n".join(lines) + "\n}\n")
    print(f"{len(found)} messages in {OUT}")


if __name__ == "__main__":
    main()
