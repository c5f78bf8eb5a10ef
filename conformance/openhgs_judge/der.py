"""Distinguished encoding rules (X.690): a strict reader and a minimal writer."""

import datetime

from . import Refused

BOOLEAN, INTEGER, BIT_STRING, OCTET_STRING, NULL, OID = 0x01, 0x02, 0x03, 0x04, 0x05, 0x06
ENUMERATED, UTF8_STRING, PRINTABLE_STRING = 0x0A, 0x0C, 0x13
UTC_TIME, GENERALIZED_TIME, SEQUENCE, SET = 0x17, 0x18, 0x30, 0x31
CONSTRUCTED = 0x20
MAX_DEPTH = 24


def parse(octets):
    """The one value that `octets` hold, all of it checked to be DER, nothing after it."""
    value, end = _read(octets, 0, 0)
    if end != len(octets):
        raise Refused("der", f"{len(octets) - end} octets after the value")
    return value


class Value:
    """One value: its tag, its contents, its whole encoding, and its parts if it is constructed."""

    def __init__(self, tag, contents, raw, parts):
        self.tag, self.contents, self.raw, self.parts = tag, contents, raw, parts

    def expect(self, tag):
        if self.tag != tag:
            raise Refused("der", f"tag {self.tag:#04x} where {tag:#04x} belongs")
        return self

    def sequence(self):
        return self.expect(SEQUENCE).parts

    def integer(self, tag=INTEGER):
        return int.from_bytes(self.expect(tag).contents, "big", signed=True)

    def octets(self):
        return self.expect(OCTET_STRING).contents

    def boolean(self):
        return self.expect(BOOLEAN).contents == b"\xff"

    def bits(self):
        """The octets of a bit string that is a whole number of octets."""
        contents = self.expect(BIT_STRING).contents
        if contents[0] != 0:
            raise Refused("der", "a bit string that is not whole octets")
        return contents[1:]

    def named_bits(self):
        """The numbers of the bits that are set."""
        contents = self.expect(BIT_STRING).contents
        return {8 * i + j for i, octet in enumerate(contents[1:]) for j in range(8) if octet & (0x80 >> j)}

    def oid(self):
        arcs, arc = [], 0
        for octet in self.expect(OID).contents:
            arc = (arc << 7) | (octet & 0x7F)
            if not octet & 0x80:
                arcs.append(arc)
                arc = 0
        first = min(arcs[0] // 40, 2)
        return ".".join(map(str, [first, arcs[0] - 40 * first] + arcs[1:]))

    def time(self):
        """UTCTime or GeneralizedTime in the only form that RFC 5280 allows: to the second, in UTC."""
        text = self.contents.decode("ascii", "replace")
        if self.tag == UTC_TIME and len(text) == 13:
            text = ("20" if text[:2] < "50" else "19") + text
        elif self.tag != GENERALIZED_TIME:
            raise Refused("der", "not a time")
        if len(text) != 15 or not text[:14].isdigit() or text[14] != "Z":
            raise Refused("der", "a time that is not YYYYMMDDHHMMSSZ")
        try:
            return datetime.datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=datetime.timezone.utc)
        except ValueError as error:
            raise Refused("der", "a time that does not exist") from error


def _read(octets, start, depth):
    if depth > MAX_DEPTH:
        raise Refused("der", "nested too deep")
    tag, at = _octet(octets, start), start + 1
    if tag & 0x1F == 0x1F:
        raise Refused("der", "a tag number above 30")
    length, at = _length(octets, at)
    end = at + length
    if end > len(octets):
        raise Refused("der", "cut short")
    contents, parts = octets[at:end], []
    if tag & CONSTRUCTED:
        while at < end:
            part, at = _read(octets[:end], at, depth + 1)
            parts.append(part)
    value = Value(tag, contents, octets[start:end], parts)
    _check_exact(value)
    return value, end


def _octet(octets, at):
    if at >= len(octets):
        raise Refused("der", "cut short")
    return octets[at]


def _length(octets, at):
    first = _octet(octets, at)
    if first < 0x80:
        return first, at + 1
    count = first & 0x7F
    if count == 0 or count > 4:
        raise Refused("der", "an indefinite or monstrous length")
    length = int.from_bytes(octets[at + 1 : at + 1 + count], "big")
    if length < 0x80 or length < 1 << (8 * (count - 1)):
        raise Refused("der", "a length that is not in its shortest form")
    return length, at + 1 + count


def _check_exact(value):
    tag, contents = value.tag, value.contents
    if tag in (BOOLEAN, NULL) and contents not in {BOOLEAN: (b"\0", b"\xff"), NULL: (b"",)}[tag]:
        raise Refused("der", "a BOOLEAN or NULL that is not exact")
    if tag in (INTEGER, ENUMERATED):
        padded = len(contents) > 1 and contents[0] in (0, 0xFF) and (contents[0] ^ contents[1]) < 0x80
        if not contents or padded:
            raise Refused("der", "an INTEGER that is not in its shortest form")
    if tag == BIT_STRING:
        unused = contents[0] if contents else 8
        if unused > 7 or (unused and (len(contents) == 1 or contents[-1] & ((1 << unused) - 1))):
            raise Refused("der", "a BIT STRING with wrong unused bits")
    if tag == OID and (not contents or contents[-1] & 0x80 or contents[0] == 0x80):
        raise Refused("der", "an OBJECT IDENTIFIER that is not exact")
    if tag == SET and value.parts != sorted(value.parts, key=lambda part: part.raw):
        raise Refused("der", "a SET that is not in order")


# Writer.


def tlv(tag, *contents):
    body = b"".join(contents)
    if len(body) < 0x80:
        return bytes([tag, len(body)]) + body
    length = len(body).to_bytes((len(body).bit_length() + 7) // 8, "big")
    return bytes([tag, 0x80 | len(length)]) + length + body


def sequence(*parts):
    return tlv(SEQUENCE, *parts)


def set_of(*parts):
    return tlv(SET, *sorted(parts))


def integer(number, tag=INTEGER):
    return tlv(tag, number.to_bytes(number.bit_length() // 8 + 1, "big", signed=True))


def boolean(truth):
    return tlv(BOOLEAN, b"\xff" if truth else b"\0")


def octet_string(octets):
    return tlv(OCTET_STRING, octets)


def bit_string(octets, unused=0):
    return tlv(BIT_STRING, bytes([unused]), octets)


def named_bits(*numbers):
    """A named bit list of bits 0 to 7, trailing zeros dropped."""
    octet = sum(0x80 >> number for number in numbers)
    return bit_string(bytes([octet]), 7 - max(numbers))


def null():
    return tlv(NULL)


def oid(dotted):
    first, second, *rest = map(int, dotted.split("."))
    body = b""
    for arc in [40 * first + second] + rest:
        groups = [arc & 0x7F]
        while arc := arc >> 7:
            groups.append(0x80 | (arc & 0x7F))
        body += bytes(reversed(groups))
    return tlv(OID, body)


def utf8(text):
    return tlv(UTF8_STRING, text.encode())


def utc_time(when):
    return tlv(UTC_TIME, when.strftime("%y%m%d%H%M%SZ").encode())


def generalized_time(when):
    return tlv(GENERALIZED_TIME, when.strftime("%Y%m%d%H%M%SZ").encode())


def context(number, *parts):
    """[number] EXPLICIT, or the constructed form of an IMPLICIT one."""
    return tlv(0xA0 | number, *parts)
