"""Go's ``time.Time`` as far as a template can reach it: what ``datetime`` returns (https://pkg.go.dev/time). Pure."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import ClassVar

from confpy.frozen import frozen

_MONTHS = (
    "January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November",
    "December",
)  # fmt: skip
_DAYS = ("Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday")
_LAYOUT = (
    r"January|Jan(?![a-z])|Monday|Mon(?![a-z])|MST|2006|__2|002|[.,](?:0+|9+)(?![0-9])|Z070000|Z07:00:00|Z0700|Z07:00|Z07"
    r"|-070000|-07:00:00|-0700|-07:00|-07|01|02|03|04|05|06|15|_2(?!006)|PM|pm|1|2|3|4|5"
)
"""Compiled when it is first used: few templates write a time."""


class Month(int):
    """``time.Month``."""

    go_type: ClassVar[str] = "time.Month"

    def go_string(self) -> str:
        return _MONTHS[self - 1]


class Weekday(int):
    """``time.Weekday``."""

    go_type: ClassVar[str] = "time.Weekday"

    def go_string(self) -> str:
        return _DAYS[self]


@frozen
class Time:
    """A moment in a time zone."""

    go_type: ClassVar[str] = "time.Time"

    moment: datetime

    def go_string(self) -> str:
        return self.format("2006-01-02 15:04:05.999999999 -0700 MST")

    def format(self, layout: str) -> str:
        """Write the moment as the layout shows the second of January 2006."""
        return re.sub(_LAYOUT, self._element, layout)

    def _element(self, found: re.Match[str]) -> str:
        element, at = found[0], self.moment
        if element[0] in ".,":
            digits = f"{at.microsecond:06d}".ljust(9, "0")[: len(element) - 1]
            digits = digits.ljust(len(element) - 1, "0")
            if element[1] == "9":
                digits = digits.rstrip("0")
            return element[0] + digits if digits else ""
        if element[0] in "Z-":
            return self._offset(element)
        hour = at.hour % 12 or 12
        return {
            "January": _MONTHS[at.month - 1], "Jan": _MONTHS[at.month - 1][:3], "1": str(at.month),
            "01": f"{at.month:02d}", "Monday": _DAYS[at.isoweekday() % 7], "Mon": _DAYS[at.isoweekday() % 7][:3],
            "2": str(at.day), "_2": f"{at.day:2d}", "02": f"{at.day:02d}", "__2": f"{self.year_day():3d}",
            "002": f"{self.year_day():03d}", "15": f"{at.hour:02d}", "3": str(hour), "03": f"{hour:02d}",
            "4": str(at.minute), "04": f"{at.minute:02d}", "5": str(at.second), "05": f"{at.second:02d}",
            "2006": f"{at.year:04d}", "06": f"{at.year % 100:02d}", "PM": "PM" if at.hour >= 12 else "AM",
            "pm": "pm" if at.hour >= 12 else "am", "MST": at.tzname() or "",
        }[element]  # fmt: skip

    def _offset(self, element: str) -> str:
        seconds = round((self.moment.utcoffset() or timedelta()).total_seconds())
        if element[0] == "Z" and not seconds:
            return "Z"
        sign, seconds = "-" if seconds < 0 else "+", abs(seconds)
        colon = ":" if ":" in element else ""
        text = f"{sign}{seconds // 3600:02d}"
        if len(element) > 3:
            text += f"{colon}{seconds // 60 % 60:02d}"
        if len(element.replace(":", "")) > 5:
            text += f"{colon}{seconds % 60:02d}"
        return text

    def year_day(self) -> int:
        return self.moment.timetuple().tm_yday

    def nanoseconds(self) -> int:
        """Return the nanoseconds since 1970 UTC."""
        since = self.moment - datetime(1970, 1, 1, tzinfo=UTC)
        return ((since.days * 86400 + since.seconds) * 10**6 + since.microseconds) * 1000

    def month(self) -> Month:
        return Month(self.moment.month)

    def weekday(self) -> Weekday:
        return Weekday(self.moment.isoweekday() % 7)

    def utc(self) -> Time:
        return Time(self.moment.astimezone(UTC))

    def local(self) -> Time:
        return Time(self.moment.astimezone())

    def add(self, duration: int) -> Time:
        """Return the moment so many nanoseconds later."""
        return Time(self.moment + timedelta(microseconds=duration // 1000))

    def add_date(self, years: int, months: int, days: int) -> Time:
        """Return the moment so much later; what goes over the end of a month goes into the next one."""
        month = self.moment.month - 1 + months
        first = self.moment.replace(year=self.moment.year + years + month // 12, month=month % 12 + 1, day=1)
        return Time(first + timedelta(days=self.moment.day - 1 + days))
