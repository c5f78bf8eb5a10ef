//! The second implementation in `conformance/` as a host with a TPM before our server, and as a server before our host.

mod common;

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use common::tpm::{Host, Server, boot, parts, policies, with_blobs, with_context};
use hgs_attest::client::AttestationFailure;
use hgs_attest::client::rtpm::{AttestedByTpm, RtpmExchange, Step};
use hgs_attest::rtpm::{Blob, Context, policy_digest};
use hgs_attest::wire::SessionId;
use hgs_attest::{Code, Verdict};
use hgs_crypto::hash::sha256;
use hgs_pki::Certificate;
use hgs_pki::health::{AttestationMode, HealthKind};
use hgs_tcg::tpm::Public;
use hgs_testkit::measured_boot::BootEvent;

const CONFORMANCE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../conformance");

/// The judge, which answers each line with one.
struct Judge {
    process: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Judge {
    fn start(folder: &Path, arguments: &[&str]) -> Self {
        hgs_testkit::tool("python3", "python3");
        let mut process = Command::new("/usr/bin/python3")
            .args(["-m", "openhgs_judge"])
            .args(arguments)
            .current_dir(folder)
            .env("PYTHONPATH", CONFORMANCE)
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        Self {
            input: process.stdin.take().unwrap(),
            output: BufReader::new(process.stdout.take().unwrap()),
            process,
        }
    }

    fn read(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        assert!(
            !line.is_empty(),
            "the judge ended: {:?}",
            self.process.wait()
        );
        line.trim_end().to_owned()
    }

    fn write(&mut self, line: &str) {
        writeln!(self.input, "{line}").unwrap();
    }

    /// The judge as a server: status and reply to a request.
    fn ask(&mut self, body: &[u8]) -> (u16, Vec<u8>) {
        self.write(std::str::from_utf8(body).unwrap());
        let answer = self.read();
        let (status, reply) = answer.split_once(' ').unwrap();
        (status.parse().unwrap(), reply.as_bytes().to_vec())
    }
}

impl Drop for Judge {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The judge as a host before our server: its last line, and our verdict.
fn attested_by(host: &mut Host, server: &mut Server, more: &[&str]) -> (String, Verdict) {
    host.tpm.release();
    let folder = host.tpm.folder().to_owned();
    std::fs::write(folder.join("log"), &host.measurements.event_log).unwrap();
    let arguments = [&["rtpm-host", "--tpm", "socket", "--log", "log"], more].concat();
    let mut judge = Judge::start(&folder, &arguments);
    let mut request = judge.read();
    loop {
        let (status, reply, verdict) = server.reply(request.as_bytes());
        judge.write(&format!("{status} {}", String::from_utf8(reply).unwrap()));
        request = judge.read();
        if !request.starts_with('{') {
            judge.process.wait().unwrap();
            return (request, verdict);
        }
    }
}

#[test]
fn the_judge_attests_as_a_host_with_a_tpm() {
    for (kind, name) in [
        (HealthKind::Encryption, "encryption"),
        (HealthKind::Signing, "signing"),
    ] {
        let mut host = Host::booted();
        let mut server = Server::with([&host]);
        server.hosts.policies = policies(&[boot()]);
        let made = ["--kind", name, "--out", "identity"];
        let (line, verdict) = attested_by(&mut host, &mut server, &made);
        let Verdict::Healthy(grant) = verdict else {
            panic!("{line}");
        };
        assert_eq!(grant.kind(), kind);
        let certificate = hgs_crypto::hex::decode(line.strip_prefix("attested ").unwrap()).unwrap();
        let certificate = Certificate::from_der(&certificate).unwrap();
        assert_eq!(certificate.public_key(), grant.identity_key());
        let public = std::fs::read(host.tpm.folder().join("identity")).unwrap();
        assert_eq!(*grant.identity_digest(), sha256(&public));
        // And with the same key again.
        let again = ["--kind", name, "--identity", "identity"];
        let (line, verdict) = attested_by(&mut host, &mut server, &again);
        assert!(line.starts_with("attested "), "{line}");
        let Verdict::Healthy(again) = verdict else {
            panic!("{line}");
        };
        assert_eq!(again.identity_key(), grant.identity_key());
        assert_eq!(host.handles(), 0, "the judge flushes");
    }
}

#[test]
fn the_judge_is_refused_as_a_host_whose_log_or_boot_is_another() {
    let mut host = Host::booted();
    let mut server = Server::with([&host]);
    server.hosts.policies = policies(&[boot()]);
    let mut other = boot();
    other.events[9].digest = [3; 32];
    host.measurements.event_log = other.log();
    let (line, _) = attested_by(&mut host, &mut server, &[]);
    assert_eq!(line, "refused event-log-mismatch");
    host.measurements.event_log = boot().log();
    other = boot();
    other.events.push(BootEvent::new(4, 0x8000_0003, b"more"));
    server.hosts.policies = policies(&[other]);
    let (line, _) = attested_by(&mut host, &mut server, &[]);
    assert_eq!(line, "refused policy-failed");
    server.hosts.hosts.clear();
    let (line, _) = attested_by(&mut host, &mut server, &[]);
    assert_eq!(line, "refused host-not-registered");
}

/// The judge as a server that knows this host.
fn judging(host: &Host) -> Judge {
    judging_with(host, &[])
}

fn judging_with(host: &Host, more: &[&str]) -> Judge {
    let folder = host.tpm.folder();
    std::fs::write(folder.join("ek"), host.endorsement_key.public().octets()).unwrap();
    let arguments = [
        "rtpm-server",
        "--endorsement-key",
        "ek",
        "--signer",
        "signer",
    ];
    Judge::start(folder, &[&arguments[..], more].concat())
}

fn attest(
    host: &mut Host,
    judge: &mut Judge,
    kind: HealthKind,
) -> Result<AttestedByTpm, AttestationFailure> {
    let mut exchange = host.start(kind);
    let mut body = exchange.body();
    let ended = loop {
        let (status, reply) = judge.ask(&body);
        match exchange.receive(status, &reply) {
            Ok(Step::Execute) => {}
            Ok(Step::Attested(attested)) => break Ok(*attested),
            Err(failure) => break Err(failure),
        }
        host.execute(&mut exchange)?;
        body = exchange.answer(&host.measurements);
    };
    host.flush(&exchange);
    ended
}

#[test]
fn a_host_of_ours_attests_to_the_judge() {
    for kind in HealthKind::ALL {
        let mut host = Host::booted();
        let mut judge = judging(&host);
        let attested = attest(&mut host, &mut judge, kind).unwrap();
        let created = attested.created.unwrap();
        let statement = attested.attested.statement();
        assert_eq!(statement.mode, AttestationMode::Tpm);
        let digest = host.endorsement_key.digest();
        assert_eq!(statement.policy_digest, policy_digest(&digest));
        let signer = std::fs::read(host.tpm.folder().join("signer")).unwrap();
        assert!(Certificate::from_der(&signer).is_ok());
        // With the same key again, and with another where that one is bound to other values.
        host.presented = Some(created.public.clone());
        let again = attest(&mut host, &mut judge, kind).unwrap();
        assert_eq!(again.created, None);
        let forged = created.public.octets();
        let forged = [&forged[..forged.len() - 1], &[forged[forged.len() - 1] ^ 2]].concat();
        host.presented = Some(Public::parse(&forged).unwrap());
        let another = attest(&mut host, &mut judge, kind).unwrap();
        assert!(another.created.is_some());
    }
}

/// What a host says that it will boot next, in the words of the page.
const CLAIM: &str = r#"{"kind": "openhgs-host-measurements", "version": 1, "components": [{"name": "initrd",
    "alternatives": [{"name": "next", "source": {"kind": "host", "of": "node-0"}, "state": {"promoted": {}}, "events":
    [{"slot": "file", "events": [{"digest":
    "0f0c4e25b2b3c21d0a4a1f0d7e3fbb0ad0bbd7a25ad6f8a1b1f5f8d5ae2f4a61"}]}]}]}]}"#;

#[test]
fn the_judge_claims_what_it_will_boot_next_as_a_host() {
    let mut host = Host::booted();
    let mut server = Server::with([&host]);
    server.hosts.policies = policies(&[boot()]);
    std::fs::write(host.tpm.folder().join("next"), CLAIM).unwrap();
    let claiming = ["--kind", "signing", "--next-boot", "next"];
    let (line, _) = attested_by(&mut host, &mut server, &claiming);
    assert_eq!(line, "refused next-boot-claims-refused");
    server.hosts.accepts_next_boot_claims = true;
    let (line, verdict) = attested_by(&mut host, &mut server, &claiming);
    assert!(line.starts_with("attested "), "{line}");
    let Verdict::Healthy(grant) = verdict else {
        panic!("{line}");
    };
    let claim = grant.next_boot().expect("what was claimed");
    assert_eq!(*claim.digest(), sha256(CLAIM.as_bytes()));
    std::fs::write(host.tpm.folder().join("next"), "{}").unwrap();
    let (line, _) = attested_by(&mut host, &mut server, &claiming);
    assert_eq!(line, "refused next-boot-claim-invalid");
}

#[test]
fn a_host_of_ours_claims_what_it_will_boot_next_before_the_judge() {
    let mut host = Host::booted();
    host.next_boot = Some(CLAIM.as_bytes().to_vec());
    let kind = HealthKind::Signing;
    let mut judge = judging(&host);
    let failure = attest(&mut host, &mut judge, kind).unwrap_err();
    assert_eq!(failure.code(), Some(Code::NextBootClaimsRefused));
    let mut judge = judging_with(&host, &["--next-boot-claims"]);
    let attested = attest(&mut host, &mut judge, kind).unwrap();
    let created = attested.created.expect("a key is made for the claim");
    host.presented = Some(created.public);
    let again = attest(&mut host, &mut judge, kind).unwrap();
    assert!(again.created.is_some(), "only a new key confirms");
    // Without the claim that was confirmed, and with another one.
    let mut exchange = host.start(kind);
    let mut body = exchange.body();
    loop {
        let (status, reply) = judge.ask(&body);
        assert!(matches!(
            exchange.receive(status, &reply),
            Ok(Step::Execute)
        ));
        let creates = matches!(
            exchange.next_command(),
            Some(hgs_tcg::tpm::Command::Create { .. })
        );
        host.execute(&mut exchange).unwrap();
        body = exchange.answer(&host.measurements);
        if creates {
            break;
        }
    }
    host.flush(&exchange);
    for other in [None, Some(&b"{}"[..])] {
        let spoilt = with_blobs(&body, |blobs| {
            blobs.retain(|blob| !matches!(blob, Blob::NextBoot(_)));
            blobs.extend(other.map(Blob::NextBoot));
        });
        let (status, reply) = judge.ask(&spoilt);
        let mut exchange = host.start(kind);
        let failure = exchange.receive(status, &reply).unwrap_err();
        assert_eq!(failure.code(), Some(Code::NextBootClaimAltered));
    }
}

/// What spoils a request.
type Spoil = fn(&[u8]) -> Vec<u8>;

/// The judge says of spoilt answers what our server says of them.
#[test]
fn both_servers_refuse_spoilt_answers_alike() {
    let mut host = Host::booted();
    let server = Server::with([&host]);
    let mut judge = judging(&host);
    let ours = host.bodies(&server, HealthKind::Encryption);
    let mut theirs = Vec::new();
    let mut exchange: RtpmExchange = host.start(HealthKind::Encryption);
    let mut body = exchange.body();
    while theirs.len() < 5 {
        theirs.push(body.clone());
        let (status, reply) = judge.ask(&body);
        assert!(matches!(
            exchange.receive(status, &reply),
            Ok(Step::Execute)
        ));
        host.execute(&mut exchange).unwrap();
        body = exchange.answer(&host.measurements);
    }
    host.flush(&exchange);
    let mut codes = Vec::new();
    let spoils: [(&str, Spoil); 7] = [
        ("seal", |body| {
            let (_, mut context) = parts(body);
            context[60] ^= 1;
            with_context(body, &context)
        }),
        ("size", |body| {
            let (_, context) = parts(body);
            with_context(body, &context[..context.len() - 1])
        }),
        ("session", |body| {
            let (mut request, _) = parts(body);
            request.session_id = SessionId([7; 16]);
            request.to_json()
        }),
        ("kind", |body| {
            let (mut request, _) = parts(body);
            request.requested_content = vec![2.into()];
            request.to_json()
        }),
        ("missing", |body| {
            with_blobs(body, |blobs| {
                blobs.remove(0);
            })
        }),
        ("command", |body| {
            with_blobs(body, |blobs| blobs.push(Blob::Command(&[0; 10])))
        }),
        ("log", |body| {
            with_blobs(body, |blobs| {
                blobs.retain(|blob| !matches!(blob, Blob::EventLog(_)));
            })
        }),
    ];
    for (name, spoil) in spoils {
        let refusal = server.refusal(&spoil(&ours[4]));
        let (status, reply) = judge.ask(&spoil(&theirs[4]));
        let expected = refusal.code();
        let mut exchange = host.start(HealthKind::Encryption);
        let failure = exchange.receive(status, &reply).unwrap_err();
        assert_eq!(failure.code(), Some(expected), "{name}");
        assert_eq!(status, refusal.status(), "{name}");
        codes.push(expected);
    }
    for told_apart in [
        Code::NoEventLog,
        Code::RtpmContextAltered,
        Code::RtpmContextOtherSession,
        Code::RtpmContextOtherKind,
    ] {
        assert!(codes.contains(&told_apart), "{}", told_apart.name());
    }
    // An octet of a value of a PCR, in the last answer.
    let spoil = |body: &[u8]| {
        let (_, context) = parts(body);
        let mut context = Context::read(&context).unwrap();
        let Blob::Response(response) = context.blobs[0] else {
            panic!("a response");
        };
        let mut altered = response.to_vec();
        altered[60] ^= 1;
        context.blobs[0] = Blob::Response(&altered);
        with_context(body, &context.octets())
    };
    let refusal = server.refusal(&spoil(&ours[4]));
    assert_eq!(refusal.code(), Code::TpmResponseNotAuthentic);
    let (_, reply) = judge.ask(&spoil(&theirs[4]));
    let mut exchange = host.start(HealthKind::Encryption);
    let failure = exchange.receive(403, &reply).unwrap_err();
    assert_eq!(failure.code(), Some(Code::TpmResponseNotAuthentic));
}
