"""Cron expressions as robfig/cron's standard parser reads them: five fields, or a descriptor."""

from __future__ import annotations

import re

_DESCRIPTORS = frozenset({
    "@yearly", "@annually", "@monthly", "@weekly", "@daily", "@midnight", "@hourly",
})  # fmt: skip
_MONTHS = {
    m: i + 1
    for i, m in enumerate(
        ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"]
    )
}
_DAYS = {d: i for i, d in enumerate(["sun", "mon", "tue", "wed", "thu", "fri", "sat"])}
_BOUNDS: tuple[tuple[int, int, dict[str, int]], ...] = (
    (0, 59, {}), (0, 23, {}), (1, 31, {}), (1, 12, _MONTHS), (0, 6, _DAYS),
)  # fmt: skip
_is_duration = re.compile(r"(\d+(\.\d+)?(ns|us|µs|ms|s|m|h))+").fullmatch


class _Bad(ValueError):
    pass


def schedule_error(schedule: str) -> str:
    """What is wrong with the schedule, in the parser's words; empty: nothing."""
    if schedule.startswith("@"):
        if schedule in _DESCRIPTORS:
            return ""
        if schedule.startswith("@every "):
            duration = schedule.removeprefix("@every ")
            if _is_duration(duration):
                return ""
            return f'failed to parse duration {schedule}: time: invalid duration "{duration}"'
        return f"unrecognized descriptor: {schedule}"
    parts = schedule.split()
    if len(parts) != 5:
        return f"expected exactly 5 fields, found {len(parts)}: [{' '.join(parts)}]"
    try:
        for part, bounds in zip(parts, _BOUNDS, strict=True):
            for expression in part.split(","):
                if expression:
                    _range(expression, *bounds)
    except _Bad as error:
        return str(error)
    return ""


def _range(expression: str, low: int, high: int, words: dict[str, int]) -> None:
    span, _, step_text = expression.partition("/")
    start_text, dash, end_text = span.partition("-")
    if expression.count("/") > 1:
        raise _Bad(f"too many slashes: {expression}")
    if span.count("-") > 1:
        raise _Bad(f"too many hyphens: {expression}")
    if start_text in ("*", "?"):
        start, end = low, high
    else:
        start = _number(start_text, words)
        end = _number(end_text, words) if dash else (high if "/" in expression else start)
    if "/" in expression and _number(step_text, {}) == 0:
        raise _Bad(f"step of range should be a positive number: {expression}")
    if start < low:
        raise _Bad(f"beginning of range ({start}) below minimum ({low}): {expression}")
    if end > high:
        raise _Bad(f"end of range ({end}) above maximum ({high}): {expression}")
    if start > end:
        raise _Bad(f"beginning of range ({start}) beyond end of range ({end}): {expression}")


def _number(text: str, words: dict[str, int]) -> int:
    if text.lower() in words:
        return words[text.lower()]
    if not text.isdigit():
        raise _Bad(
            f'failed to parse int from {text}: strconv.Atoi: parsing "{text}": invalid syntax'
        )
    return int(text)
