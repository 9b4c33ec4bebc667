"""When a cron schedule is due: five fields, names, steps, @macros, in a time zone (robfig/cron's
rules)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

_MACROS = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
_MONTHS = {"jan": 1, "feb": 2, "mar": 3, "apr": 4, "may": 5, "jun": 6, "jul": 7, "aug": 8}
_MONTHS |= {"sep": 9, "oct": 10, "nov": 11, "dec": 12}
_DAYS = {"sun": 0, "mon": 1, "tue": 2, "wed": 3, "thu": 4, "fri": 5, "sat": 6}
_LIMITS = ((0, 59), (0, 23), (1, 31), (1, 12), (0, 6))
YEARS = 5


@dataclass(frozen=True, slots=True)
class Schedule:
    """Minutes, hours, days, months and weekdays at which it is due, in a time zone; or a fixed
    interval."""

    fields: tuple[frozenset[int], ...]
    any_day: bool
    any_weekday: bool
    zone: tzinfo
    every_seconds: int = 0

    def next_after(self, now: float) -> float | None:
        """The next time strictly after `now`; None if there is none within five years."""
        if self.every_seconds:
            return (int(now) // self.every_seconds + 1) * float(self.every_seconds)
        moment = datetime.fromtimestamp(now, self.zone).replace(second=0, microsecond=0)
        moment += timedelta(minutes=1)
        limit = moment.year + YEARS
        minutes, hours, _, months, _ = self.fields
        while moment.year <= limit:
            if moment.month not in months:
                first = moment.replace(day=1, hour=0, minute=0)
                moment = (first + timedelta(days=32)).replace(day=1)
            elif not self._is_day(moment):
                moment = moment.replace(hour=0, minute=0) + timedelta(days=1)
            elif moment.hour not in hours:
                moment = moment.replace(minute=0) + timedelta(hours=1)
            elif moment.minute not in minutes:
                moment += timedelta(minutes=1)
            else:
                return moment.timestamp()
        return None

    def _is_day(self, moment: datetime) -> bool:
        """Day of month and day of week: both if one is a star, either if both are given."""
        day = moment.day in self.fields[2]
        weekday = moment.isoweekday() % 7 in self.fields[4]
        return day and weekday if self.any_day or self.any_weekday else day or weekday


def parse_schedule(text: str, time_zone: str = "") -> Schedule:
    """Raises ValueError."""
    text = text.strip()
    for prefix in ("TZ=", "CRON_TZ="):
        if text.startswith(prefix):
            zone_name, _, text = text.partition(" ")
            time_zone = time_zone or zone_name.removeprefix(prefix)
    try:
        zone: tzinfo = ZoneInfo(time_zone) if time_zone else UTC
    except (ZoneInfoNotFoundError, ValueError) as error:
        raise ValueError(f"unknown time zone {time_zone}") from error
    if text.startswith("@every "):
        return Schedule((), True, True, zone, max(1, _duration(text.removeprefix("@every "))))
    parts = _MACROS.get(text, text).split()
    if len(parts) != 5:
        raise ValueError(f"expected exactly 5 fields, found {len(parts)}: {text}")
    names: tuple[dict[str, int], ...] = ({}, {}, {}, _MONTHS, _DAYS)
    fields = tuple(
        _field(part, *limits, table)
        for part, limits, table in zip(parts, _LIMITS, names, strict=True)
    )
    return Schedule(fields, parts[2][0] in "*?", parts[4][0] in "*?", zone)


def _field(text: str, low: int, high: int, names: dict[str, int]) -> frozenset[int]:
    found: set[int] = set()
    for part in text.split(","):
        body, _, step_text = part.partition("/")
        step = int(step_text) if step_text else 1
        if body in ("*", "?"):
            first, last = low, high
        else:
            start, _, end = body.partition("-")
            first = _number(start, names)
            last = _number(end, names) if end else (high if step_text else first)
        if high == 6 and last == 7:  # Sunday is 0; some write 7
            found.add(0)
            last = 6 if first < 7 else 0
            first = min(first, last)
        if not (low <= first <= last <= high) or step < 1:
            raise ValueError(f"out of range: {part}")
        found.update(range(first, last + 1, step))
    return frozenset(found)


def _number(text: str, names: dict[str, int]) -> int:
    return names[text.lower()] if text.lower() in names else int(text)


def _duration(text: str) -> int:
    units = {"h": 3600, "m": 60, "s": 1}
    total, number = 0, ""
    for char in text.strip():
        if char.isdigit():
            number += char
        elif char in units and number:
            total += int(number) * units[char]
            number = ""
        else:
            raise ValueError(f"not a duration: {text}")
    if number:
        raise ValueError(f"not a duration: {text}")
    return total
