"""TCG event logs of the crypto-agile form, replayed in the bank of SHA-256."""

import hashlib
import struct

from . import Refused

SHA256, NO_ACTION = 0x000B, 3
LOCALITY = b"StartupLocality\0"


def replayed(log):
    """{PCR: value} of the PCRs that the log extends, and how many events it has, its header among them."""
    if not log:
        raise Refused("no-event-log")
    try:
        return _replayed(log)
    except (struct.error, IndexError, KeyError) as error:
        raise Refused("event-log-malformed", str(error)) from error


def _replayed(log):
    _, _, _, size = struct.unpack_from("<II20sI", log)
    header = log[32 : 32 + size]
    if header[:16] != b"Spec ID Event03\0":
        raise Refused("event-log-malformed", "header")
    count = struct.unpack_from("<I", header, 24)[0]
    sizes = dict(struct.unpack_from("<HH", header, 28 + 4 * place) for place in range(count))
    if SHA256 not in sizes:
        raise Refused("event-log-mismatch", "no bank of SHA-256")
    values, at, events = {}, 32 + size, 1
    while at < len(log):
        if not any(log[at:]):
            break
        events += 1
        pcr, kind, digests = struct.unpack_from("<III", log, at)
        at += 12
        digest = None
        for _ in range(digests):
            algorithm = struct.unpack_from("<H", log, at)[0]
            octets = log[at + 2 : at + 2 + sizes[algorithm]]
            at += 2 + sizes[algorithm]
            digest = octets if algorithm == SHA256 else digest
        size = struct.unpack_from("<I", log, at)[0]
        data = log[at + 4 : at + 4 + size]
        if len(data) != size:
            raise Refused("event-log-malformed", "too short")
        at += 4 + size
        if kind == NO_ACTION:
            if data[:16] == LOCALITY:
                values[0] = bytes(31) + data[16:17]
            continue
        values[pcr] = hashlib.sha256(values.get(pcr, bytes(32)) + digest).digest()
    return values, events


def check(log, later, proved):
    """Whether a log gives the values of the PCRs that firmware and boot loaders extend, and later events what user space did."""
    values, events = replayed(log)
    for number, pcr, digest in later:
        if number >= events and 11 <= pcr <= 15:
            values[pcr] = hashlib.sha256(values.get(pcr, bytes(32)) + digest).digest()
    for pcr in range(16):
        if pcr != 10 and values.get(pcr, bytes(32)) != proved[pcr]:
            raise Refused("event-log-mismatch", f"PCR {pcr}")
