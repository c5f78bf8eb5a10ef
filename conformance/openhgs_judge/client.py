"""HTTP for the host, and the report of what was checked."""

import http.client
import json
import select
import ssl
import time
from dataclasses import dataclass
from urllib.parse import urlsplit

from . import Refused

MAX_BODY = 512 * 1024


class Failed(Exception):
    """A check that did not hold."""


def must(truth, why):
    if not truth:
        raise Failed(why)


def expect_allow(reply, allowed):
    """The Allow header of a 405: HEAD and OPTIONS may stand beside the methods of section 1."""
    found = {name.strip() for name in reply.header("Allow").split(",")}
    must(found - {"HEAD", "OPTIONS"} == allowed, f"Allow: {reply.header('Allow')}")


@dataclass
class Reply:
    status: int
    headers: dict
    body: bytes
    # All fields, in order, as [(name, value)]: `headers` has the last of each name.
    fields: list = ()

    def header(self, name):
        return self.headers.get(name.lower(), "")

    def all(self, name):
        return [value for found, value in self.fields if found.lower() == name.lower()]

    def content_type(self, expected):
        found = "".join(self.header("Content-Type").lower().split())
        must(found == expected, f"Content-Type {self.header('Content-Type')!r}")

    def ok(self, content_type):
        must(self.status == 200, f"status {self.status}: {self.body[:300]!r}")
        self.content_type(content_type)
        return self.body


class Client:
    """One connection for each request."""

    def __init__(self, base, ca=None, insecure=False, timeout=30):
        self.base, self.timeout = urlsplit(base), timeout
        self.context = None
        if self.base.scheme == "https":
            self.context = ssl.create_default_context(cafile=ca)
            if insecure:
                self.context.check_hostname, self.context.verify_mode = False, ssl.CERT_NONE

    def connection(self):
        if self.context:
            return http.client.HTTPSConnection(
                self.base.hostname, self.base.port, timeout=self.timeout, context=self.context
            )
        return http.client.HTTPConnection(self.base.hostname, self.base.port, timeout=self.timeout)

    def send(self, method, path, body=None, http_1_0=False, headers=None):
        connection = self.connection()
        if http_1_0:
            connection._http_vsn, connection._http_vsn_str = 10, "HTTP/1.0"
        try:
            connection.request(method, path, body=body, headers=headers or {})
            return _reply(connection.getresponse())
        finally:
            connection.close()

    def send_too_much(self, path):
        """A body one octet over the limit, to a server that may answer before it has read it."""
        connection = self.connection()
        try:
            connection.putrequest("POST", path)
            connection.putheader("Content-Length", str(MAX_BODY + 1))
            connection.endheaders()
            rest = MAX_BODY + 1
            while rest and not select.select([connection.sock], [], [], 0.3 if rest > MAX_BODY else 0)[0]:
                piece = min(rest, 16_384)
                connection.send(b" " * piece)
                rest -= piece
            return _reply(connection.getresponse())
        finally:
            connection.close()

    def get(self, path, **options):
        return self.send("GET", path, **options)

    def post(self, path, body=b"", **options):
        return self.send("POST", path, body, **options)


def _reply(response):
    headers = {name.lower(): value for name, value in response.getheaders()}
    return Reply(response.status, headers, response.read(), response.getheaders())


class Report:
    """The results, in order."""

    def __init__(self, as_json=False, quiet=False):
        self.as_json, self.quiet, self.results = as_json, quiet, []

    def check(self, name, function, *arguments, **options):
        """Run one check; gives what it gives, or None."""
        started, why, found = time.monotonic(), None, None
        try:
            found = function(*arguments, **options)
        except (Failed, Refused) as failure:
            why = str(failure)
        except Exception as failure:  # whatever a wrong reply provokes in the judge is its failure
            why = f"{type(failure).__name__}: {failure}"
        seconds = round(time.monotonic() - started, 3)
        self.results.append({"name": name, "ok": why is None, "why": why, "seconds": seconds})
        if not self.as_json and not self.quiet:
            print(f"ok {name}" if why is None else f"FAIL {name}: {why}", flush=True)
        return found

    @property
    def failed(self):
        return [result for result in self.results if not result["ok"]]

    def finish(self):
        if self.as_json:
            print(json.dumps({"ok": not self.failed, "checks": self.results}, indent=1))
        elif not self.quiet:
            print(f"{len(self.results) - len(self.failed)} ok, {len(self.failed)} failed")
        return 1 if self.failed else 0
