"""Calls every operation of the admin API with a client that openapi-python-client has generated.

    calls.py OPENAPI_JSON FOLDER URL

FOLDER holds the generated package `client`; host1.pem, host2.pem: public keys of hosts; tls.pem, which the server shows; and caller.pem and
caller.key, which the caller shows. Each operation has to be there, to answer with a status that the document has for it, and with a body that
the generated types take. Those that EXPECTED names have to be refused as it says; every other one has to succeed.
"""

import importlib
import json
import ssl
import sys

import httpx

NOBODY = "0" * 64
DUMP_KEY = json.dumps({"kind": "openhgs-dump-key", "version": 1, "files": [{"path": "/etc/kdump.key", "digests": ["5a" * 32]}]})
# Why a guardian of one node without TPMs refuses an operation whose request is well formed.
EXPECTED = {
    "cluster": 409,
    "invite_node": 409,
    "remove_node": 409,
    "add_certificate": 400,
    "add_signer": 400,
    "remove_ek_root": 404,
    "add_ek_roots": 400,
    "approve_hosts": 409,
    "host_evidence": 404,
    "simulate_policies": 409,
    "protector": 404,
    # There is no console.
    "new_console_link": 409,
    "revoke_console_session": 404,
}


class Calls:
    def __init__(self, document, client):
        self.client = client
        self.bodies, self.called, self.faults = {}, set(), []
        for methods in document["paths"].values():
            for operation in methods.values():
                body = operation.get("requestBody")
                name = body and list(body["content"].values())[0]["schema"]["$ref"].rsplit("/", 1)[1]
                self.bodies[operation["operationId"]] = (name, set(operation["responses"]))

    def call(self, name, body=None, **parameters):
        module = importlib.import_module(f"client.api.default.{name}")
        model, statuses = self.bodies[name]
        if model is not None:
            models = importlib.import_module("client.models")
            parameters["body"] = getattr(models, model).from_dict(body or {})
        response = module.sync_detailed(client=self.client, **parameters)
        status = int(response.status_code)
        expected = EXPECTED.get(name, 200)
        answer = f"{name}: status {status}, body {response.content[:400]!r}"
        if str(status) not in statuses:
            self.faults.append(f"{answer}: the document does not have the status")
        elif status != expected:
            self.faults.append(f"{answer}: expected {expected}")
        # No type is generated for a stream of events.
        elif response.parsed is None and name != "events":
            self.faults.append(f"{answer}: the client does not take the body")
        self.called.add(name)
        return response.parsed


def read(folder, name):
    with open(f"{folder}/{name}", encoding="ascii") as file:
        return file.read()


def all_operations(calls, folder):
    key = [read(folder, f"host{number}.pem") for number in (1, 2)]
    call = calls.call
    for name in ("status", "server", "cluster", "certificate_usage", "signers", "host_groups", "policies", "audit_log", "trace", "console_sessions"):
        call(name)
    call("set_server", {"rekey_window_seconds": 60})
    call("invite_node", {"public_key": "age1"})
    call("remove_node", node="node-9")
    call("new_console_link", {"digest": NOBODY})
    call("revoke_console_session", session="5f0c2a91")

    added = call("new_certificate", {"kind": "signing", "bits": 2048})
    thumbprint = added.thumbprint
    call("add_certificate", {"kind": "signing", "certificate": "none"})
    call("rotate_certificates", {"bits": 2048})
    everything = call("certificates")
    pages, page = [], call("certificates", limit=2)
    while page:
        pages += page
        page = call("certificates", limit=2, after=page[-1].thumbprint)
    assert [one.thumbprint for one in pages] == sorted(one.thumbprint for one in everything), pages
    head = next(one.thumbprint for one in everything if one.kind == "signing" and one.primary)
    call("certificate", thumbprint=thumbprint)
    call("set_certificate", {"label": "spare"}, thumbprint=thumbprint)
    call("guardian_document", thumbprint=head)
    call("disable_certificate", thumbprint=thumbprint)
    call("enable_certificate", thumbprint=thumbprint)
    call("retire_certificate", thumbprint=thumbprint)
    call("remove_certificate", thumbprint=thumbprint)

    call("add_signer", {"certificate": "none"})
    call("set_signer", {"label": "ours"}, signer="all")
    signer = call("signers")[0].thumbprint
    call("retire_signer", signer=signer)
    call("remove_signer", signer=signer)

    call("add_host", {"name": "host1", "host_key": key[0]})
    call("add_hosts", {"hosts": [{"name": "host2", "host_key": key[1]}]})
    first = call("hosts", limit=1)
    second = call("hosts", limit=1, after=first[0].name)
    names = [host.name for host in first + second]
    assert names == ["host1", "host2"], names
    call("host", host="host1")
    call("new_host_group", {"name": "lab"})
    call("set_host", {"group": "lab"}, host="host1")
    call("host_evidence", host="host1")
    call("host_measurements", host="host1")
    call("set_host_measurements", {"text": None}, host="host1")
    call("revoke_host", {"reason": "a test"}, host="host1")
    call("remove_host", host="host1")
    call("removed_hosts")
    call("readmit_host", host="host1")
    call("deny_host", {"policy_digest": NOBODY, "reason": "a test"})
    call("denied_hosts")
    call("allow_host", policy=NOBODY)
    call("remove_host_group", group="lab")

    policy = call("policies")[0].name
    for name in ("enable_policy", "disable_policy", "reset_policy"):
        call(name, {}, policy=policy)
    document = {"name": "kdump", "kind": "dump-key", "text": DUMP_KEY}
    call("add_policy_document", document)
    call("policy_documents")
    call("policy_document", document="kdump")
    call("change_policy_document", {"text": document["text"]}, document="kdump")
    call("remove_policy_document", document="kdump")
    call("ek_roots", limit=1)
    call("add_ek_roots", {"certificates": "none"})
    call("remove_ek_root", thumbprint=NOBODY)
    call("approve_hosts", {"hosts": ["host2"]})
    call("simulate_policies", {"log": "", "pcrs": {}})
    call("simulate_for_hosts", limit=1, after="host1")

    call("protectors", limit=1, until="2000-01-01T00:00:00Z")
    call("protector", protector=NOBODY)
    newest = call("audit", limit=1)[0].sequence
    call("audit", request="5f0c3a91-1742")
    call("audit_record", sequence=newest)
    call("events", since=newest, follow=False)
    call("record_export", {"file": NOBODY, "octets": 1, "generation": 1, "recipients": []})
    call("archive_records", {"before": "2000-01-01T00:00:00Z"})
    call("synthetic_roll")


def main():
    document, folder, url = sys.argv[1:]
    sys.path.insert(0, folder)
    with open(document, encoding="utf-8") as file:
        document = json.load(file)
    context = ssl.create_default_context(cafile=f"{folder}/tls.pem")
    context.load_cert_chain(f"{folder}/caller.pem", f"{folder}/caller.key")
    transport = httpx.HTTPTransport(verify=context)
    client = importlib.import_module("client").Client(base_url=url, httpx_args={"transport": transport}, timeout=30)
    calls = Calls(document, client)
    all_operations(calls, folder)
    calls.faults += [f"{name}: never called" for name in calls.bodies if name not in calls.called]
    if calls.faults:
        sys.exit("\n".join(calls.faults))
    print(f"{len(calls.called)} operations were called")


main()
