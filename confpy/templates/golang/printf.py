"""Go's printing (https://pkg.go.dev/fmt): ``print``, ``println``, ``printf``, and what an action prints. Pure."""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Sequence

from confpy.keys.view import Pair
from confpy.templates.functions import InvalidArgument
from confpy.templates.golang.values import FIELDS, MAP, MISSING, GoList, Uint8, Uint16, encoded, type_name
from confpy.templates.results import Service

_LARGEST = 1_000_000
"""What a width or a precision may be."""
_DEEPEST = 100
"""Lists and maps in each other that are printed."""
_ESCAPES = {"\a": r"\a", "\b": r"\b", "\f": r"\f", "\n": r"\n", "\r": r"\r", "\t": r"\t", "\v": r"\v", "\\": "\\\\"}


def sprint(*values: object) -> str:
    """Print values as ``print`` does: spaces only between two that are no texts."""
    text, before = "", True
    for position, value in enumerate(values):
        is_text = type(value) is str
        if position and not is_text and not before:
            text += " "
        text += shown(value)
        before = is_text
    return text


def sprintln(*values: object) -> str:
    return " ".join(map(shown, values)) + "\n"


def shown(value: object) -> str:
    """Return ``%v`` of a value."""
    if type(value) is str:
        return value
    if type(value) is int:
        return str(value)
    if type(value) is float and -1e6 < value < 1e6 and (whole := int(value)) and whole == value:
        return str(whole)  # most numbers of JSON
    printer = _Printer()
    printer.argument(value, "v")
    return "".join(printer.parts)


def printed(value: object) -> str:
    """Return what an action prints for a value."""
    if type(value) is str:
        return value
    if value is None or value is MISSING:
        return "<no value>"
    if value is True:
        return "true"
    if value is False:
        return "false"
    if type(value) is Service:
        return shown(value)[1:]  # an action prints what a pointer points to
    return shown(value)


def sprintf(template: str, *values: object) -> str:
    """Format values; mistakes are printed, ``%!d(string=x)``, as Go never refuses any."""
    if template == "%s" and len(values) == 1 and type(values[0]) is str:
        return values[0]
    printer = _Printer()
    printer.format(template, values)
    return "".join(printer.parts)


_NUMBER = re.compile(r"[0-9]*")
_INDEX = re.compile(r"\[([^\]]*)\]")


class _Printer:
    """One call: its output so far, and the flags of the verb in hand."""

    def __init__(self) -> None:
        self.parts: list[str] = []
        self._clear()
        self._failing = False

    def _clear(self) -> None:
        self.width: int | None = None
        self.precision: int | None = None
        self.minus = self.plus = self.sharp = self.space = self.zero = False
        self.plus_v = self.sharp_v = False

    def _write(self, text: str) -> None:
        self.parts.append(text)

    def _pad(self, text: str, *, blank: bool = False) -> None:
        """Write the text in the width that is wanted; ``blank``: never with zeros."""
        if self.width:
            fill = " " if blank or not self.zero else "0"
            text = text.ljust(self.width) if self.minus else text.rjust(self.width, fill)
        self.parts.append(text)

    # --- the format --------------------------------------------------------------------------------------------------

    def format(self, template: str, values: Sequence[object]) -> None:
        position, end, used = 0, len(template), 0
        reordered = False
        while True:
            percent = template.find("%", position)
            if percent < 0:
                self._write(template[position:])
                break
            self._write(template[position:percent])
            position = percent + 1
            self._clear()
            position = self._flags(template, position)
            good = True
            used, position, indexed, fine = self._index(template, position, used, len(values))
            reordered |= indexed
            good &= fine
            if template.startswith("*", position):
                position += 1
                self.width, used = _from_argument(values, used)
                if self.width is None:
                    self._write("%!(BADWIDTH)")
                elif self.width < 0:
                    self.width, self.minus, self.zero = -self.width, True, False
                indexed = False
            else:
                self.width, position = _number(template, position)
                good &= not (indexed and self.width is not None)
            if position + 1 <= end and template.startswith(".", position) and position + 1 < end:
                position += 1
                good &= not indexed
                used, position, indexed, fine = self._index(template, position, used, len(values))
                reordered |= indexed
                good &= fine
                if template.startswith("*", position):
                    position += 1
                    self.precision, used = _from_argument(values, used)
                    if self.precision is not None and self.precision < 0:
                        self.precision = None
                    if self.precision is None:
                        self._write("%!(BADPREC)")
                    indexed = False
                else:
                    self.precision, position = _number(template, position)
                    self.precision = self.precision or 0
            if not indexed:
                used, position, indexed, fine = self._index(template, position, used, len(values))
                reordered |= indexed
                good &= fine
            if position >= end:
                self._write("%!(NOVERB)")
                break
            verb = "\ufffd" if "\udc80" <= template[position] <= "\udcff" else template[position]
            position += 1
            if verb == "%":
                self._write("%")
            elif not good:
                self._write(f"%!{verb}(BADINDEX)")
            elif used >= len(values):
                self._write(f"%!{verb}(MISSING)")
            else:
                if verb == "v":
                    self.sharp_v, self.sharp = self.sharp, False
                    self.plus_v, self.plus = self.plus, False
                self.argument(values[used], verb)
                used += 1
        if not reordered and used < len(values):
            self._clear()
            self._write("%!(EXTRA ")
            for number, value in enumerate(values[used:]):
                self._write(", " if number else "")
                if value is None or value is MISSING:
                    self._write("<nil>")
                else:
                    self._write(type_name(value) + "=")
                    self.argument(value, "v")
            self._write(")")

    def _flags(self, template: str, position: int) -> int:
        names = {"#": "sharp", "0": "zero", "+": "plus", "-": "minus", " ": "space"}
        while position < len(template) and template[position] in names:
            setattr(self, names[template[position]], True)
            position += 1
        return position

    def _index(self, template: str, position: int, used: int, count: int) -> tuple[int, int, bool, bool]:
        """Read ``[3]``: the argument that is next, where to go on, whether one stood there, whether it is right."""
        if not template.startswith("[", position):
            return used, position, False, True
        found = _INDEX.match(template, position)
        if found is None:
            return used, position + 1, True, False
        digits = found[1]
        if digits.isascii() and digits.isdigit() and 1 <= int(digits[:8]) <= count:
            return int(digits) - 1, found.end(), True, True
        return used, found.end(), True, False

    # --- one argument ------------------------------------------------------------------------------------------------

    def argument(self, value: object, verb: str) -> None:
        if value is None or value is MISSING:
            if verb in "Tv":
                self._pad("<nil>")
            else:
                self._bad(value, verb)
        elif verb == "T":
            self._text(type_name(value), "s")
        elif verb == "p":
            self._bad(value, verb)
        else:
            self._value(value, verb, 0)

    def _bad(self, value: object, verb: str) -> None:
        self._write(f"%!{verb}(")
        if value is None or value is MISSING:
            self._write("<nil>")
        else:
            self._write(type_name(value) + "=")
            self._failing = True
            self._value(value, "v", 0)
            self._failing = False
        self._write(")")

    def _value(self, value: object, verb: str, depth: int) -> None:
        spelled = getattr(value, "go_string", None)
        if value is None or value is MISSING:
            self._write("interface {}(nil)" if self.sharp_v else "<nil>")
        elif isinstance(value, str):
            self._text(value, verb)
        elif isinstance(value, bool):
            if verb in "tv":
                self._pad("true" if value else "false")
            else:
                self._bad(value, verb)
        elif spelled is not None and verb in "vsxXq" and not (self.sharp_v or self._failing):
            self._text(spelled(), verb)
        elif isinstance(value, int):
            self._integer(value, verb)
        elif isinstance(value, float):
            if not self._float(value, verb):
                self._bad(value, verb)
        elif isinstance(value, complex):
            self._complex(value, verb)
        elif isinstance(value, dict):
            self._open(MAP if self.sharp_v else "map[", depth)
            for number, name in enumerate(sorted(value)):
                self._separate(number)
                self._value(name, verb, depth + 1)
                self._write(":")
                self._value(value[name], verb, depth + 1)
            self._write("}" if self.sharp_v else "]")
        elif isinstance(value, GoList):
            self._open(value.go_type if self.sharp_v else "[", depth)
            for number, item in enumerate(value):
                self._separate(number)
                self._value(item, verb, depth + 1)
            self._write("}" if self.sharp_v else "]")
        elif isinstance(value, Pair | Service):
            self._structure(value, verb, depth)
        else:
            self._pad(spelled() if spelled is not None else type_name(value))

    def _structure(self, value: Pair | Service, verb: str, depth: int) -> None:
        name = type_name(value)
        if name.startswith("*"):
            if depth:
                self._write("0xc000000000")  # an address, another one in each run of Go's
                return
            self._write("&")
        self._open(name.removeprefix("*") if self.sharp_v else "{", depth)
        for number, field in enumerate(FIELDS[name]):
            self._separate(number)
            if self.plus_v or self.sharp_v:
                self._write(field + ":")
            self._value(getattr(value, field.lower()), verb, depth + 1)
        self._write("}")

    def _open(self, bracket: str, depth: int) -> None:
        if depth > _DEEPEST:
            raise InvalidArgument("this is nested too deeply to be printed")
        self._write(bracket + "{" if self.sharp_v else bracket)

    def _separate(self, number: int) -> None:
        if number:
            self._write(", " if self.sharp_v else " ")

    # --- texts -------------------------------------------------------------------------------------------------------

    def _text(self, text: str, verb: str) -> None:
        if verb in "vs" and not (verb == "v" and self.sharp_v):
            self._pad(text if self.precision is None else text[: self.precision])
        elif verb in "qv":
            text = text if self.precision is None else text[: self.precision]
            if self.sharp and can_backquote(text):
                self._pad(f"`{text}`")
            else:
                self._pad(quote(text, '"', ascii_only=self.plus))
        elif verb in "xX":
            self._bytes(encoded(text), verb)
        else:
            self._bad(text, verb)

    def _bytes(self, content: bytes, verb: str) -> None:
        content = content if self.precision is None else content[: self.precision]
        digits = content.hex()
        prefix = "0x" if self.sharp and content else ""
        digits = " ".join(f"{prefix}{byte:02x}" for byte in content) if self.space else prefix + digits
        self._pad(digits.upper() if verb == "X" else digits)

    # --- numbers -----------------------------------------------------------------------------------------------------

    def _integer(self, value: int, verb: str) -> None:
        bases = {"v": "d", "d": "d", "b": "b", "o": "o", "O": "o", "x": "x", "X": "X"}
        if verb == "v" and self.sharp_v and isinstance(value, Uint8 | Uint16):
            self.sharp = True
            self._digits(value, "x", "x")
            self.sharp = False
        elif verb in bases:
            self._digits(value, bases[verb], verb)
        elif verb == "c":
            self._pad(chr(_rune(value)))
        elif verb == "q":
            self._pad(quote(chr(_rune(value)), "'", ascii_only=self.plus))
        elif verb == "U":
            number = value % 2**64
            digits = f"{number:X}".zfill(max(4, self.precision or 0))
            printable = self.sharp and number <= 0x10FFFF and chr(number).isprintable()
            self._pad(f"U+{digits}" + (f" '{chr(number)}'" if printable else ""), blank=True)
        else:
            self._bad(value, verb)

    def _digits(self, value: int, base: str, verb: str) -> None:
        if self.precision == 0 and value == 0:
            self._pad("", blank=True)
            return
        digits = format(abs(value), base)
        signed = value < 0 or self.plus or self.space
        if self.precision is not None:
            digits = digits.zfill(self.precision)
        elif self.zero and not self.minus and self.width:
            digits = digits.zfill(self.width - signed)
        if self.sharp:
            if base == "o":
                digits = digits if digits.startswith("0") else "0" + digits
            elif base != "d":
                digits = f"0{base}{digits}"
        if verb == "O":
            digits = "0o" + digits
        self._pad(("-" if value < 0 else "+" if self.plus else " " if self.space else "") + digits, blank=True)

    def _float(self, value: float, verb: str) -> bool:
        """Print a float; say whether the verb is one for it."""
        kinds: dict[str, tuple[str, int | None]] = {
            **{letter: (letter, None) for letter in "bgGxX"},
            **{letter: (letter, 6) for letter in "feE"},
            "F": ("f", 6),
            "v": ("g", None),
        }
        if verb not in kinds:
            return False
        kind, precision = kinds[verb]
        precision = self.precision if self.precision is not None else precision
        number = format_float(value, kind, precision)
        number = number if number[0] in "+-" else "+" + number
        if self.space and number[0] == "+" and not self.plus:
            number = " " + number[1:]
        if number[1] in "IN":
            if number[1] == "N" and not self.space and not self.plus:
                number = number[1:]
            elif number[0] == "+" and not self.plus:
                number = number if number[1] == "I" else number[1:]
            self._pad(number, blank=True)
            return True
        if self.sharp and kind != "b":
            number = _with_point(number, kind, precision)
        if not self.plus and number[0] == "+":
            self._pad(number[1:])
        elif self.zero and not self.minus and self.width and self.width > len(number):
            self._write(number[0] + number[1:].rjust(self.width - 1, "0"))
        else:
            self._pad(number)
        return True

    def _complex(self, value: complex, verb: str) -> None:
        if verb not in "vbgGxXfFeE":
            self._bad(value, verb)
            return
        plus = self.plus
        self._write("(")
        self._float(value.real, verb)
        self.plus = True
        self._float(value.imag, verb)
        self._write("i)")
        self.plus = plus


def _number(template: str, position: int) -> tuple[int | None, int]:
    found = _NUMBER.match(template, position)
    assert found is not None
    if not found[0]:
        return None, position
    # A crazy long number is none, and with it ends the format.
    value = int(found[0][:8])
    return (value, found.end()) if value <= _LARGEST * 10 and len(found[0].lstrip("0")) < 8 else (None, len(template))


def _from_argument(values: Sequence[object], used: int) -> tuple[int | None, int]:
    """Return a width that an argument gives, and which argument is next."""
    if used >= len(values):
        return None, used
    value = values[used]
    right = isinstance(value, int) and not isinstance(value, bool) and abs(value) <= _LARGEST
    return (int(value) if right and isinstance(value, int) else None), used + 1


def _rune(value: int) -> int:
    return value if 0 <= value <= 0x10FFFF and not 0xD800 <= value <= 0xDFFF else 0xFFFD


def can_backquote(text: str) -> bool:
    return not any(
        (character < " " and character != "\t") or character in "`\x7f\ufeff" or "\udc80" <= character <= "\udcff"
        for character in text
    )


def quote(text: str, mark: str, *, ascii_only: bool = False) -> str:
    """Return Go's literal of a text or a character."""
    parts = [mark]
    for character in text:
        point = ord(character)
        if character in _ESCAPES:
            parts.append(_ESCAPES[character])
        elif character == mark:
            parts.append("\\" + mark)
        elif 0xDC80 <= point <= 0xDCFF:
            parts.append(f"\\x{point - 0xDC00:02x}")
        elif character.isprintable() and (point < 0x80 or not ascii_only):
            parts.append(character)
        elif point < 0x20 or point == 0x7F:
            parts.append(f"\\x{point:02x}")
        else:
            parts.append(f"\\u{point:04x}" if point < 0x10000 else f"\\U{point:08x}")
    return "".join([*parts, mark])


def format_float(value: float, kind: str, precision: int | None) -> str:
    """Return a float as ``strconv.FormatFloat`` writes it; without a precision, the fewest digits that are exact."""
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    if kind in "xX":
        return _hexadecimal(value, kind, precision)
    if kind == "b":
        (bits,) = struct.unpack(">Q", struct.pack(">d", value))
        exponent = bits >> 52 & 0x7FF
        mantissa = bits & (1 << 52) - 1 | bool(exponent) << 52
        return f"{'-' * (bits >> 63)}{mantissa}p{max(exponent, 1) - 1075:+d}"
    if precision is not None:
        return f"{value:.{precision or int(kind in 'gG')}{kind}}"
    sign = "-" if math.copysign(1, value) < 0 else ""
    digits, exponent = _shortest(abs(value))
    if kind in "gG" and -4 <= exponent < 6:
        kind = "f"
    if kind == "f":
        if exponent < 0:
            return f"{sign}0.{'0' * (-exponent - 1)}{digits}"
        whole = digits[: exponent + 1].ljust(exponent + 1, "0")
        rest = digits[exponent + 1 :]
        return sign + whole + ("." + rest if rest else "")
    letter = "E" if kind in "GE" else "e"
    return f"{sign}{digits[0]}{'.' + digits[1:] if len(digits) > 1 else ''}{letter}{exponent:+03d}"


def _shortest(value: float) -> tuple[str, int]:
    """Return the fewest decimal digits of a number and its decimal exponent: 0.0012 → 12, -3."""
    mantissa, _, exponent = f"{value!r}".partition("e")
    whole, _, rest = mantissa.partition(".")
    digits = (whole + rest).lstrip("0")
    shift = len(whole) - 1 if whole.lstrip("0") else -1 - (len(rest) - len(rest.lstrip("0")))
    if not digits.strip("0"):
        return "0", 0
    return digits.rstrip("0") or "0", shift + int(exponent or 0)


def _hexadecimal(value: float, kind: str, precision: int | None) -> str:
    sign = "-" if math.copysign(1, value) < 0 else ""
    mantissa, exponent = math.frexp(abs(value))
    bits, exponent = (int(mantissa * 2**53), exponent - 1) if mantissa else (0, 0)
    if precision is not None and precision < 13:
        shift = 4 * (13 - precision)
        low, half = bits & ((1 << shift) - 1), 1 << (shift - 1)
        bits = (bits >> shift) + (low > half or (low == half and bool(bits >> shift & 1)))
        bits <<= shift
        if bits >> 53:
            bits, exponent = bits >> 1, exponent + 1
    digits = f"{bits & (2**52 - 1):013x}"
    digits = digits.rstrip("0") if precision is None else digits[:precision].ljust(precision, "0")
    text = f"{sign}0x{bits >> 52}{'.' + digits if digits else ''}p{exponent:+03d}"
    return text.upper() if kind == "X" else text


def _with_point(number: str, kind: str, precision: int | None) -> str:
    """Apply the ``#`` flag to a signed number: a decimal point always, and for ``g`` the zeros behind it."""
    match = re.fullmatch(r"(.)(.*?)([pP].*)?" if kind in "xX" else r"(.)(.*?)([eE].*)?", number)
    assert match is not None
    sign, body, tail = match[1], match[2], match[3] or ""
    wanted = (6 if precision is None else precision) if kind in "gGx" else 0
    wanted -= len(body.replace(".", "").lstrip("0"))
    if "." not in body:
        wanted -= body == "0"
        body += "."
    return sign + body + "0" * max(wanted, 0) + tail
