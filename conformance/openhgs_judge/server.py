"""Both services over HTTP (profile, section 1), for a host to be driven against, and for `drive` itself."""

import http.server
import threading
from functools import partial

from . import Refused, attestation, freshness, kps, metadata, response, xml

MAX_BODY = xml.MAX_MESSAGE
XML_TYPE, JSON_TYPE = "application/xml; charset=utf-8", "application/json; charset=utf-8"


class Services:
    """The routes: {path segments in lower case: {method: handler}}; a handler gives (content type, body)."""

    def __init__(self, attester, kps_service, metadata_document):
        self.attester, self.kps, self.metadata = attester, kps_service, metadata_document
        self.response_key = None
        self.routes = {}
        for version, path in kps.PATHS.items():
            self._add(path, POST=partial(self._roll, version))
        self._add(kps.METADATA_PATH, GET=self._metadata, POST=self._metadata)
        for prefix in ("/Attestation/", "/Attestation/attestationservice.svc/"):
            self._add(prefix + "getinfo", GET=lambda _: (JSON_TYPE, self.attester.info()))
            certificates = self.attester.signing_certificates()
            self._add(prefix + "v2.0/signingCertificates", GET=lambda _: (JSON_TYPE, certificates))
            self._add(prefix + "v2.0/hostkeyattest", POST=self._attest)
            for path in ("v1.0/attest", "v2.0/attest", "v1.0/domainattest", "v2.0/domainattest"):
                self._add(prefix + path, POST=self._other_mode)

    def _add(self, path, **methods):
        self.routes[segments(path)] = methods

    def signature(self, nonce, body, request):
        """The fields of a signed response: every roll of this service is signed by the first pair."""
        now = int(self.kps.clock().timestamp())
        if self.response_key is None:
            key = self.kps.pairs[0].signing_key
            self.response_key = response.ResponseKey.delegate(key, now - response.SKEW, now + response.DAY)
        return self.response_key.sign(200, body, request, now, nonce)

    def _roll(self, version, body, reports):
        return XML_TYPE, self.kps.roll(body, version, reports)

    def _attest(self, body, proofs):
        return JSON_TYPE, self.attester.attest(body, proofs)

    def _metadata(self, _body):
        return XML_TYPE, self.metadata

    @staticmethod
    def _other_mode(_body):
        raise attestation.operation_mode_failure()


def segments(target):
    """The segments of a path in lower case; None for a path that matches nothing."""
    path = target.split("?", 1)[0]
    if not path.startswith("/") or "%" in path:
        return None
    parts = path[1:].removesuffix("/").split("/")
    if any(part in ("", ".", "..") for part in parts):
        return None
    return tuple(part.lower() for part in parts)


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    services = None
    nonce = request_body = None
    hands_out_nonce = False

    def log_message(self, *_):
        """No log: the judge's own lines are enough."""

    def answer(self):
        try:
            self._send(200, *self._handle())
        except kps.Failure as failure:
            self._send(failure.status, XML_TYPE, kps.write_error(failure.code, failure.message))
        except attestation.Failure as failure:
            self._send(failure.status, JSON_TYPE, failure.write())

    do_GET = do_POST = do_PUT = do_DELETE = do_HEAD = do_OPTIONS = answer

    def _handle(self):
        self.hands_out_nonce = False
        length = int(self.headers.get("Content-Length") or 0)
        if length > MAX_BODY:
            self.close_connection = True
            raise self._failure(413)
        body = self.request_body = self.rfile.read(length)
        methods = self.services.routes.get(segments(self.path))
        if methods is None:
            raise self._failure(404)
        if self.command not in methods:
            self.allow = ", ".join(sorted(methods))
            raise self._failure(405)
        try:
            self.nonce = self._asked(body)
        except Refused as refused:
            raise kps.Failure(400, "InvalidRequestException", str(refused)) from refused
        try:
            handler = methods[self.command]
            if handler == self.services._attest:
                self.hands_out_nonce = True
                reply = handler(body, self.headers.get_all(freshness.PROOF_HEADER) or [])
                self.hands_out_nonce = False
                return reply
            self.hands_out_nonce = segments(self.path)[-1] == "getinfo"
            if self._rolls():
                return handler(body, self.headers.get_all(kps.REPORT) or [])
            return handler(body)
        except Refused as refused:
            raise self._failure(500) from refused

    def _rolls(self):
        return segments(self.path) in map(segments, kps.PATHS.values())

    def _asked(self, body):
        """The nonce, if a signature of a roll is asked for."""
        if not self._rolls():
            return None
        return response.read_request(lambda name: self.headers.get_all(name) or [], body)

    def _failure(self, status):
        names = {
            404: ("NotFoundException", "not-found"),
            405: ("MethodNotAllowedException", "method-not-allowed"),
            413: ("LimitExceededException", "too-large"),
            500: ("InternalException", "internal"),
        }
        code, attestation_code = names[status]
        if self.path.lower().startswith("/keyprotection"):
            return kps.Failure(status, code)
        return attestation.Failure(status, "ErrorReply", attestation_code, retryable=status == 500)

    def _send(self, status, content_type, body):
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        if status == 200 and self.nonce is not None:
            for name, value in self.services.signature(self.nonce, body, self.request_body):
                self.send_header(name, value)
        if self.hands_out_nonce:
            self.send_header(freshness.NONCE_HEADER, self.services.attester.nonce())
        if status == 405:
            self.send_header("Allow", self.allow)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def start(services, port=0, address="127.0.0.1"):
    """(server, base URL); it serves in a thread of its own until `server.shutdown()`."""
    handler = type("BoundHandler", (Handler,), {"services": services})
    server = http.server.ThreadingHTTPServer((address, port), handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server, f"http://{address}:{server.server_address[1]}"


def services_for(guardian, communications, signer_key, host_keys, clock=None):
    """Services of one guardian that know the given host keys (SubjectPublicKeyInfo)."""
    clocks = {"clock": clock} if clock else {}
    attester = attestation.AttestationService(signer_key, host_keys, **clocks)
    service = kps.KeyProtectionService([guardian], [attester.signer], attester, **clocks)
    return Services(attester, service, metadata.write(guardian, communications))
