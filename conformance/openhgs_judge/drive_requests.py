"""Requests to attest that are refused: (name, body, reply, code, status), by section 7."""

from . import attestation, certificate, rsa, suite


def refused(host_key):
    """All of them, for a host that is registered."""
    identity = certificate.spki_of(rsa.generate())
    good = attestation.signed_contents(host_key, identity)
    yield from _malformed(good)
    yield from _too_large(good)
    yield from _contents(good)
    yield from _unauthorized(host_key, identity, good)
    yield from _identity_keys(host_key)


def _malformed(good):
    right = attestation.request(good, [1])
    text = attestation.dumps(right).decode()
    item = good[0]
    table = {
        "empty": b"",
        "not-json": b"<xml/>",
        "not-an-object": b"[]",
        "cut-short": text[:-1].encode(),
        "trailing-text": text.encode() + b"x",
        "utf-16": text.encode("utf-16"),
        "not-utf-8": text.encode().replace(b'{"SessionId"', b'{"\xff":1,"SessionId"'),
        "doubled-member": text.replace('{"SessionId"', '{"SessionId":"AAAAAAAAAAAAAAAAAAAAAA==","SessionId"').encode(),
        "doubled-member-inside": text.replace('{"m_Item1":1,', '{"m_Item1":1,"m_Item1":1,').encode(),
        "byte-order-mark": b"\xef\xbb\xbf" + text.encode(),
        "kind-with-fraction": text.replace('"m_Item1":1,', '"m_Item1":1.0,').encode(),
        "kind-with-exponent": text.replace('"m_Item1":1,', '"m_Item1":1e0,').encode(),
        "ignored-value-not-base64": {**right, "ProvidedContent": [*good, {"m_Item1": 2, "m_Item2": "*"}]},
        "doubled-unknown-member": text.replace('{"SessionId"', '{"a":{"b":1,"b":1},"SessionId"').encode(),
        "no-session": {name: value for name, value in right.items() if name != "SessionId"},
        "session-not-base64": {**right, "SessionId": "*"},
        "session-of-15-octets": {**right, "SessionId": attestation.encode(bytes(15))},
        "no-requested-content": {name: value for name, value in right.items() if name != "RequestedContent"},
        "no-provided-content": {name: value for name, value in right.items() if name != "ProvidedContent"},
        "provided-content-not-array": {**right, "ProvidedContent": item},
        "requested-content-not-array": {**right, "RequestedContent": 1},
        "requested-content-by-name": {**right, "RequestedContent": ["VSMIdentityEncryptionKeyCertificate"]},
        "requested-content-boolean": {**right, "RequestedContent": [True]},
        "provided-content-kind-by-name": {**right, "ProvidedContent": [{**item, "m_Item1": "1"}, *good[1:]]},
        "value-not-base64": {**right, "ProvidedContent": [{**item, "m_Item2": "*" + item["m_Item2"]}, *good[1:]]},
        "value-with-line-break": {**right, "ProvidedContent": [{**item, "m_Item2": item["m_Item2"] + "\n"}, *good[1:]]},
        "value-not-a-string": {**right, "ProvidedContent": [{**item, "m_Item2": 1}, *good[1:]]},
    }  # fmt: skip
    return [(name, body, "PayloadErrorReply", "malformed-request", 400) for name, body in table.items()]


def _too_large(good):
    """One more than each limit of section 7."""
    right = attestation.request(good, [1])
    nested = 0
    for _ in range(attestation.MAX_LEVELS):
        nested = [nested]
    table = {
        "17-contents": attestation.request(good + [attestation.provided(2, b"")] * 14, [1]),
        "17-levels": {**right, "More": nested},
        "1025-values": {**right, "More": [0] * attestation.MAX_VALUES},
        "65-members": {**right, "More": {f"m{number}": 0 for number in range(attestation.MAX_MEMBERS + 1)}},
    }
    return [(name, body, "ErrorReply", "too-large", 413) for name, body in table.items()]


def _contents(good):
    for index, name in enumerate(("identity-key", "host-key", "host-key-signature")):
        fewer = good[:index] + good[index + 1 :]
        yield f"no-{name}", attestation.request(fewer, [1]), "PayloadErrorReply", "missing-content", 400
        doubled = attestation.request(good + [good[index]], [1])
        yield f"doubled-{name}", doubled, "PayloadErrorReply", "missing-content", 400
    requests = {"nothing": [], "both": [1, 2], "one-twice": [1, 1], "unknown": [7], "zero": [0]}
    for name, requested in requests.items():
        body = attestation.request(good, requested)
        yield f"requests-{name}", body, "PayloadErrorReply", "requested-content", 400
    body = attestation.request(good, [3])
    yield "requests-ca-intermediate", body, "PayloadErrorReply", "ca-intermediate-not-offered", 400


def _unauthorized(host_key, identity, good):
    stranger = rsa.generate()
    host = certificate.spki_of(host_key)
    swapped = suite.sign(host_key, suite.RSA_SHA256, identity + host)
    only_identity = suite.sign(host_key, suite.RSA_SHA256, identity)
    pss = suite.sign(host_key, suite.RSA_PSS, host + identity)
    by_stranger = suite.sign(stranger, suite.RSA_SHA256, host + identity)

    def request(contents):
        return attestation.request(contents, [1])

    def signed_with(signature):
        return request(good[:2] + [attestation.provided(attestation.HOST_KEY_SIGNATURE, signature)])

    reply = "UnauthorizedErrorReply"
    unknown = attestation.signed_contents(stranger, identity)
    yield "unknown-host", request(unknown), reply, "host-not-registered", 403
    unknown = [good[0], attestation.provided(attestation.HOST_KEY, certificate.spki_of(stranger)), good[2]]
    yield "unknown-host-and-wrong-signature", request(unknown), reply, "host-not-registered", 403
    for name, signature in (
        ("of-zeros", bytes(256)),
        ("empty", b""),
        ("in-wrong-order", swapped),
        ("over-identity-key-only", only_identity),
        ("of-pss", pss),
        ("by-a-stranger", by_stranger),
    ):
        yield f"signature-{name}", signed_with(signature), reply, "host-key-signature", 403


def _identity_keys(host_key):
    weak = rsa.generate(1024)
    numbers = rsa.generate()
    modulus, exponent = rsa.public_numbers(numbers)
    good = certificate.spki_of(numbers)
    keys = {
        "of-1024-bits": certificate.spki_of(weak),
        "of-exponent-3": certificate.public_key_info(modulus, 3),
        "of-small-factor": certificate.public_key_info(modulus * 751, exponent),
        "of-close-primes": certificate.spki_of(rsa.close_primes_key(numbers)),
        "is-host-key": certificate.spki_of(host_key),
        "is-a-certificate": certificate.container("x", numbers, 0),
        "with-trailing-octet": good + b"\0",
        "garbage": b"garbage",
        "empty": b"",
    }
    for name, octets in keys.items():
        body = attestation.request(attestation.signed_contents(host_key, octets), [1])
        yield f"identity-key-{name}", body, "VirtualSecureModeErrorReply", "identity-key-invalid", 400
