"""Attestation in TPM mode (profile, section 11): contexts, the host, and the server."""

import hashlib
import json
import secrets
import struct
import time

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from . import Refused, attestation, health, tcg_log, tpm
from .attestation import Failure, decode, dumps, encode, provided
from .certificate import Certificate

EVENT_LOG, DEVICE_INFO, COMMAND, RESPONSE, IMA_LOG, PREIMAGE, NEXT_BOOT, UNEXPLAINED = range(1, 9)
IDENTITY_KEY, CONTEXT, ENDORSEMENT_KEY = 1, 2, 4
MOST = {EVENT_LOG: 1 << 20, DEVICE_INFO: 16, COMMAND: 4096, RESPONSE: 4096}
MOST |= {IMA_LOG: 8 << 20, PREIMAGE: 1 << 18, NEXT_BOOT: 1 << 17, UNEXPLAINED: 40}
MAX_CONTEXT, MAX_BLOBS, MAX_STATE, MAX_ROUNDS, MAX_READINGS = 9961472, 128, 16384, 32, 6
LIFETIME, SKEW = 120, 60
LABEL = b"OpenHGS RTPM 1"
EMULATOR = struct.pack("<IIII", 1, 2, 4, 0)


def policy_digest(ek_public):
    return hashlib.sha256(b"OpenHGS TPM 1" + hashlib.sha256(ek_public).digest()).digest()


def confirmation(claim):
    """What the TPM confirms of a claim of the next boot."""
    return hashlib.sha256(b"OpenHGS next boot 1" + claim).digest() if claim else b""


# Contexts.


def write_context(state, blobs):
    body = b"".join(struct.pack("<II", kind, len(octets)) + octets for kind, octets in blobs)
    return struct.pack("<IIII", 16 + len(state) + len(body), 1, len(blobs), 0) + state + body


def later_events(blobs):
    """[(number, PCR, digest)] of what blobs 6 and 8 tell, in the order of the numbers."""
    events = []
    for kind, octets in blobs:
        if kind in (PREIMAGE, UNEXPLAINED):
            pcr, number = struct.unpack_from("<II", octets)
            rest = octets[8:]
            events.append((number, pcr, rest if kind == UNEXPLAINED else hashlib.sha256(rest).digest()))
    return sorted(events, key=lambda event: event[0])


def read_context(octets):
    """(EncStateObject, blobs)."""
    malformed = Refused("rtpm-context-malformed")
    try:
        size, version, count, _ = struct.unpack_from("<IIII", octets)
        ciphertext = struct.unpack_from("<I", octets, 48)[0]
    except struct.error:
        raise malformed from None
    if max(len(octets) - MAX_CONTEXT, count - MAX_BLOBS, 36 + ciphertext - MAX_STATE) > 0:
        raise Refused("too-large")
    at = 52 + ciphertext
    if size != len(octets) or version != 1 or at > size:
        raise malformed
    state, blobs = octets[16:at], []
    for _ in range(count):
        if at + 8 > size:
            raise malformed
        kind, length = struct.unpack_from("<II", octets, at)
        blob = octets[at + 8 : at + 8 + length]
        if kind not in MOST or len(blob) != length:
            raise malformed
        if length > MOST[kind]:
            raise Refused("too-large")
        if kind == UNEXPLAINED and (length != 40 or not 11 <= int.from_bytes(blob[:4], "little") <= 15):
            raise malformed
        once = kind in (EVENT_LOG, DEVICE_INFO, IMA_LOG, NEXT_BOOT)
        if once and any(kind == other for other, _ in blobs):
            raise malformed
        blobs.append((kind, blob))
        at += 8 + length
    if at != size:
        raise malformed
    return state, blobs


# The host.


class Host:
    """A host with a TPM. `identity` is the public area of a key of an earlier exchange, `claim` what it will boot next."""

    def __init__(self, module, log, kind=health.ENCRYPTION, identity=None, ima=b"", claim=b""):
        self.claim = claim
        self.tpm, self.log, self.ima, self.kind, self.identity = module, log, ima, kind, identity
        self.session = secrets.token_bytes(16)
        self.keys, self.sessions, self.values, self.created, self.rounds = {}, [], {}, None, 0
        handle, self.ek = tpm.created_primary(module.send(tpm.create_primary(tpm.ENDORSEMENT, tpm.EK_FRONT)))
        module.flush(handle)

    def request(self, context=None):
        contents = [provided(ENDORSEMENT_KEY, self.ek)]
        if self.identity:
            contents.append(provided(IDENTITY_KEY, self.identity))
        if context:
            contents.append(provided(CONTEXT, context))
        members = {"SessionId": encode(self.session), "RequestedContent": [self.kind]}
        return dumps({**members, "ProvidedContent": contents})

    def answer(self, reply):
        """The request that answers a TpmReplyContinue."""
        self.rounds += 1
        if self.rounds > MAX_ROUNDS:
            raise Refused("rounds")
        found = attestation.read_reply(reply, "TpmReplyContinue")
        state, blobs = read_context(decode(found["RtpmActiveContext"]))
        commands = [octets for kind, octets in blobs]
        if any(kind != COMMAND for kind, _ in blobs):
            raise Refused("blob", "not a command")
        codes = [self._check(command) for command in commands]
        answers = [(RESPONSE, self._execute(code, command)) for code, command in zip(codes, commands)]
        if tpm.PCR_READ in codes or tpm.CREATE in codes:
            answers += [(EVENT_LOG, self.log)] if self.log else []
            answers += [(IMA_LOG, self.ima)] if self.ima else []
            answers += [(NEXT_BOOT, self.claim)] if self.claim else []
            answers.append((DEVICE_INFO, EMULATOR))
        return self.request(write_context(state, answers))

    def certificate(self, reply):
        """The health certificate, which is over a key of this host's TPM."""
        octets = attestation.read_health_certificate(reply, self.kind)
        if self.claim and not self.created:
            raise Refused("claim-ignored")
        public = self.created[1] if self.created else self.identity
        front = public[:-258]
        if Certificate(octets).spki != tpm.spki(public, front):
            raise Refused("other-key")
        return octets

    def flush(self):
        for handle in [*self.sessions, *self.keys.values()]:
            self.tpm.flush(handle)

    def _check(self, command):
        """The code of a command that is exactly of the page, for what this exchange has made."""
        if len(command) < 14 or int.from_bytes(command[2:6], "big") != len(command):
            raise Refused("foreign-command", command[:14].hex())
        code = int.from_bytes(command[6:10], "big")
        handle = int.from_bytes(command[10:14], "big")
        if code == tpm.CREATE_PRIMARY and command in self._primaries() and handle not in self.keys:
            return code
        if code == tpm.START_AUTH_SESSION:
            front = struct.pack(">II", handle, tpm.NULL)
            nonce, salt = tpm.sized(command[20:52]), tpm.sized(command[54:310])
            exact = tpm.message(tpm.PLAIN, code, front + nonce + salt + bytes.fromhex("000010000b"))
            if command == exact and handle == self.keys.get(tpm.ENDORSEMENT) and len(self.sessions) < 3:
                return code
        if code == tpm.PCR_READ and len(command) == 97:
            select = command[87:94]
            count = bin(int.from_bytes(command[94:], "big")).count("1")
            if self._is_ours(command[10:87]) and select == tpm.SELECT and 1 <= count <= 8:
                return code
        if code == tpm.CREATE and handle == self.keys.get(tpm.OWNER) and not self.created:
            policy = command[109:141]
            exact = tpm.creation(
                tpm.identity_front(self.kind, policy) + tpm.sized(b""), confirmation(self.claim)
            )
            if self._is_ours(command[14:91]) and command[91:] == exact and tpm.bound_to(policy, self.values):
                return code
        raise Refused("foreign-command", f"{code:#x}")

    def _primaries(self):
        return tpm.create_primary(tpm.ENDORSEMENT, tpm.EK_FRONT), tpm.create_primary(tpm.OWNER, tpm.SRK_FRONT)

    def _is_ours(self, area):
        shape = area[:4], area[8:10], area[42:43], area[43:45]
        exact = bytes.fromhex("00000049"), bytes.fromhex("0020"), b"\x81", bytes.fromhex("0020")
        return shape == exact and int.from_bytes(area[4:8], "big") in self.sessions

    def _execute(self, code, command):
        answer = self.tpm.send(command)
        if code == tpm.CREATE_PRIMARY:
            hierarchy = int.from_bytes(command[10:14], "big")
            self.keys[hierarchy], public = tpm.created_primary(answer)
            if hierarchy == tpm.ENDORSEMENT and public != self.ek:
                raise Refused("other-endorsement-key")
        elif code == tpm.START_AUTH_SESSION:
            if int.from_bytes(answer[6:10], "big") not in tpm.OUT_OF_SLOTS or not self.sessions:
                self.sessions.append(tpm.started(answer)[0])
        elif code == tpm.PCR_READ:
            outer = tpm.response(answer, tpm.SESSIONS)
            self.values.update(tpm.pcrs_in(outer.take(outer.number(4)))[0])
        elif code == tpm.CREATE:
            self.created = tpm.created_key(answer)
        return answer


# The server. What it remembers is in the context; identity keys are in memory.

REPLIES = {
    "host-not-registered": (403, "UnauthorizedErrorReply", False),
    "host-revoked": (403, "UnauthorizedErrorReply", False),
    "rtpm-context-malformed": (400, "RtpmErrorReply", False),
    "rtpm-context-foreign": (403, "RtpmErrorReply", True),
    "rtpm-context-altered": (403, "RtpmErrorReply", False),
    "rtpm-context-other-host": (403, "RtpmErrorReply", False),
    "rtpm-context-other-session": (403, "RtpmErrorReply", False),
    "rtpm-context-other-kind": (403, "RtpmErrorReply", False),
    "rtpm-context-expired": (403, "RtpmErrorReply", True),
    "tpm-response-missing": (400, "RtpmErrorReply", False),
    "tpm-refused": (403, "RtpmErrorReply", True),
    "tpm-response-malformed": (400, "RtpmErrorReply", False),
    "tpm-structure": (400, "RtpmErrorReply", False),
    "template": (400, "RtpmErrorReply", False),
    "tpm-other-endorsement-key": (403, "RtpmErrorReply", False),
    "tpm-response-not-authentic": (403, "RtpmErrorReply", False),
    "tpm-response-replayed": (403, "RtpmErrorReply", False),
    "tpm-pcr-bank": (403, "RtpmErrorReply", False),
    "pcrs-unstable": (403, "RtpmErrorReply", True),
    "next-boot-claims-refused": (403, "PayloadErrorReply", False),
    "next-boot-claim-altered": (403, "PayloadErrorReply", False),
    "next-boot-claim-invalid": (403, "PayloadErrorReply", False),
    "no-event-log": (403, "TcgLogValidationErrorReply", False),
    "event-log-malformed": (403, "TcgLogValidationErrorReply", False),
    "event-log-mismatch": (403, "TcgLogValidationErrorReply", False),
    "too-large": (413, "ErrorReply", False),
}


class Server:
    """Registered hosts by SHA-256 of the EK's public area. A log that gives the PCRs is healthy here."""

    def __init__(self, signer_key, clock=time.time, takes_claims=False):
        self.takes_claims = takes_claims
        self.signer_key, self.signer = signer_key, Certificate(health.make_signer(signer_key))
        self.hosts, self.clock = {}, clock
        self.key, self.key_id = secrets.token_bytes(32), secrets.token_bytes(16)

    def register(self, ek_public):
        tpm.made_from(tpm.EK_FRONT, ek_public)
        self.hosts[hashlib.sha256(ek_public).digest()] = {"id": secrets.token_bytes(16), "keys": {1: [], 2: []}, "next": []}

    def attest(self, octets):
        """(status, reply)."""
        try:
            return 200, self._attest(octets)
        except Failure as failure:
            return failure.status, failure.write()
        except Refused as refused:
            status, reply, retryable = REPLIES[refused.reason]
            return status, Failure(status, reply, refused.reason, retryable).write()

    def _attest(self, octets):
        message = attestation.loads(octets)
        attestation.check_size(message)
        contents = message["ProvidedContent"]
        texts = {item["m_Item1"]: item["m_Item2"] for item in contents}
        if len(texts) != len(contents) or ENDORSEMENT_KEY not in texts:
            raise Failure(400, "PayloadErrorReply", "missing-content")
        kind = {1: 1, 2: 2}.get(*message["RequestedContent"])
        if kind is None:
            raise Failure(400, "PayloadErrorReply", "requested-content")
        ek, session = decode(texts[ENDORSEMENT_KEY]), decode(message["SessionId"])
        host = self.hosts.get(hashlib.sha256(ek).digest())
        if host is None:
            raise Refused("host-not-registered")
        binding = {"host": hashlib.sha256(ek).hexdigest(), "session": session.hex()}
        if not texts.get(CONTEXT):
            state = {"stage": "primaries", "kind": kind, "started": int(self.clock())}
            return self._ask(state, binding, self._primaries())
        sealed, blobs = read_context(decode(texts[CONTEXT]))
        state = self._open(sealed, binding)
        if state["kind"] != kind:
            raise Refused("rtpm-context-other-kind")
        if any(number == COMMAND for number, _ in blobs):
            raise Refused("rtpm-context-malformed", "a command")
        responses = [blob for number, blob in blobs if number == RESPONSE]
        if len(responses) != state["awaits"]:
            raise Refused("tpm-response-missing")
        log = b"".join(blob for number, blob in blobs if number == EVENT_LOG), later_events(blobs)
        presented = decode(texts.get(IDENTITY_KEY, ""))
        self.claim = b"".join(blob for number, blob in blobs if number == NEXT_BOOT)
        step = getattr(self, "_after_" + state["stage"])
        return step(state, binding, responses, host, ek, log, presented)

    def _check_claim(self):
        """Form and setting; what a host may say of which component is for baselines, which this server does not have."""
        if not self.takes_claims:
            raise Refused("next-boot-claims-refused")
        try:
            claim = json.loads(self.claim)
            kind = claim["kind"], claim["version"], claim.get("parameters", {})
            alternatives = [one for component in claim["components"] for one in component["alternatives"]]
        except (ValueError, KeyError, TypeError):
            raise Refused("next-boot-claim-invalid") from None
        if kind != ("openhgs-host-measurements", 1, {}) or not alternatives:
            raise Refused("next-boot-claim-invalid")

    def _primaries(self):
        return [tpm.create_primary(tpm.ENDORSEMENT, tpm.EK_FRONT), tpm.create_primary(tpm.OWNER, tpm.SRK_FRONT)]

    def _ask(self, state, binding, commands):
        state = {**state, **binding, "made": int(self.clock()), "awaits": len(commands)}
        nonce = secrets.token_bytes(12)
        ciphertext = AESGCM(self.key).encrypt(nonce, json.dumps(state).encode(), LABEL)
        sealed = self.key_id + nonce + bytes(4) + struct.pack("<I", len(ciphertext)) + ciphertext
        context = write_context(sealed, [(COMMAND, command) for command in commands])
        kind = "TpmReplyContinue" + attestation.TYPE_SUFFIX
        return dumps({"__type": kind, "RtpmActiveContext": encode(context)})

    def _open(self, sealed, binding):
        key_id, nonce, zero, ciphertext = sealed[:16], sealed[16:28], sealed[28:32], sealed[36:]
        if key_id != self.key_id:
            raise Refused("rtpm-context-foreign")
        try:
            state = json.loads(AESGCM(self.key).decrypt(nonce, ciphertext, LABEL))
        except InvalidTag:
            raise Refused("rtpm-context-altered") from None
        if zero != bytes(4):
            raise Refused("rtpm-context-altered")
        if state["host"] != binding["host"]:
            raise Refused("rtpm-context-other-host")
        if state["session"] != binding["session"]:
            raise Refused("rtpm-context-other-session")
        if not -SKEW <= self.clock() - state["made"] <= LIFETIME:
            raise Refused("rtpm-context-expired")
        return state

    def _after_primaries(self, state, binding, responses, host, ek, log, presented):
        (ek_handle, ek_public), (srk_handle, srk) = map(tpm.created_primary, responses)
        if ek_public != ek:
            raise Refused("tpm-other-endorsement-key")
        tpm.made_from(tpm.SRK_FRONT, srk)
        pairs = [tpm.Session.start(ek, ek_handle) for _ in range(3)]
        sessions = [session.to_json() for session, _ in pairs]
        state = {**state, "stage": "starting", "srk": [srk_handle, srk.hex()], "sessions": sessions}
        return self._ask(state, binding, [command for _, command in pairs])

    def _after_starting(self, state, binding, responses, host, ek, log, presented):
        sessions = []
        for members, octets in zip(state["sessions"], responses):
            session, code = tpm.Session.from_json(members), int.from_bytes(octets[6:10], "big")
            if code in tpm.OUT_OF_SLOTS and sessions:
                continue
            if code in (0x2C4, 0x2D5, 0x084, 0x095, 0x19C, 0x182):
                raise Refused("tpm-other-endorsement-key")
            session.take_start(octets)
            sessions.append(session)
        return self._read({**state, "last": None, "readings": 0}, binding, sessions, range(24), {})

    def _read(self, state, binding, sessions, unread, values):
        parts = [list(unread)[at : at + 8] for at in range(0, len(unread), 8)][: len(sessions)]
        commands = [session.read_pcrs(part) for session, part in zip(sessions, parts)]
        state = {
            **state,
            "stage": "reading",
            "sessions": [session.to_json() for session in sessions],
            "asked": parts,
            "unread": list(unread)[8 * len(parts) :],
            "values": {str(pcr): value.hex() for pcr, value in values.items()},
        }
        return self._ask(state, binding, commands)

    def _after_reading(self, state, binding, responses, host, ek, log, presented):
        values = {int(pcr): bytes.fromhex(value) for pcr, value in state["values"].items()}
        sessions = [tpm.Session.from_json(members) for members in state["sessions"]]
        for session, part, octets in zip(sessions, state["asked"], responses):
            read, selected = tpm.pcrs_in(session.verify(tpm.PCR_READ, octets))
            if selected != tpm.selection(part):
                raise Refused("tpm-pcr-bank")
            values.update(read)
        if state["unread"]:
            return self._read(state, binding, sessions, state["unread"], values)
        stable = {str(pcr): value.hex() for pcr, value in values.items() if pcr not in tpm.UNSTABLE}
        readings = state["readings"] + 1
        if stable != state["last"]:
            if readings == MAX_READINGS:
                raise Refused("pcrs-unstable")
            return self._read({**state, "last": stable, "readings": readings}, binding, sessions, range(24), {})
        tcg_log.check(*log, values)
        kind, policy = state["kind"], tpm.policy_pcr(tpm.OURS, values)
        digest = hashlib.sha256(presented).digest()
        if self.claim:
            self._check_claim()
        elif host["keys"][kind][-1:] == [digest] and presented[:-258] == tpm.identity_front(kind, policy):
            return self._certify(state, host, ek, presented)
        srk_handle, srk = state["srk"]
        template = tpm.identity_front(kind, policy) + tpm.sized(b"")
        command = sessions[0].create(bytes.fromhex(srk), srk_handle, template, confirmation(self.claim))
        proved = {str(pcr): value.hex() for pcr, value in values.items()}
        state = {**state, "stage": "creating", "sessions": [sessions[0].to_json()], "proved": proved}
        state = {**state, "policy": policy.hex(), "confirmed": confirmation(self.claim).hex()}
        return self._ask(state, binding, [command])

    def _after_creating(self, state, binding, responses, host, ek, log, presented):
        session = tpm.Session.from_json(state["sessions"][0])
        reader = tpm.Reader(session.verify(tpm.CREATE, responses[0]))
        _, public = reader.sized(), reader.sized()
        tpm.made_from(tpm.identity_front(state["kind"], bytes.fromhex(state["policy"])), public)
        tcg_log.check(*log, {int(pcr): bytes.fromhex(value) for pcr, value in state["proved"].items()})
        if confirmation(self.claim).hex() != state["confirmed"]:
            raise Refused("next-boot-claim-altered")
        if self.claim:
            self._check_claim()
            host["next"].append(self.claim)
        return self._certify(state, host, ek, public)

    def _certify(self, state, host, ek, public):
        kind, digest = state["kind"], hashlib.sha256(public).digest()
        if digest in host["keys"][kind][:-1]:
            raise Failure(403, "UnauthorizedErrorReply", "identity-key-superseded")
        if digest not in host["keys"][kind]:
            host["keys"][kind].append(digest)
        began = health.datetime.datetime.fromtimestamp(state["started"], health.datetime.timezone.utc)
        statement = health.Statement(health.TPM_MODE, host["id"], began, policy_digest(ek))
        spki = tpm.spki(public, public[:-258])
        issued = health.issue(self.signer, self.signer_key, spki, kind, statement)
        name = "HealthCertificateReply" + attestation.TYPE_SUFFIX
        return dumps({"__type": name, "Content": [{"m_Item1": kind, "m_Item2": encode(issued)}]})
