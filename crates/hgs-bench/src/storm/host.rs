//! A host of a storm, and its virtual machines.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use hgs_client::configuration::{Configuration, Endpoints, Services};
use hgs_client::service::Sides;
use hgs_client::{Folders, GuardedHost};
use hgs_crypto::random::System;
use hgs_kps::signed_response::{ACCEPT_SIGNATURE, CONTENT_DIGEST, Nonce, SignatureRequest};
use hgs_kps::wire::Algorithms;
use hgs_kps::{PendingRoll, ServiceVersion};
use hgs_pki::Certificate;
use hgs_pki::health::HealthKind;
use hgs_protector::{GuardianCertificates, TransportKey, VerifiedProtector, create};
use hgs_testkit::fixtures::{Guardian, Keys};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use super::guardian::Site;
use crate::http;
use crate::measure::Outcome;

/// Until an answer has come; the limit of hosts.
const LIMIT: Duration = Duration::from_secs(35);
/// Until another node is asked.
const PATIENCE: Duration = Duration::from_secs(1);
/// Until all nodes are asked again that can't answer.
const PAUSE: Duration = Duration::from_millis(250);

/// A host that was registered and attested before the blackout.
pub(super) struct Host {
    host: GuardedHost,
    front: Front,
    machines: Vec<VerifiedProtector>,
}

/// What a host has seen of the storm.
#[derive(Default)]
pub(super) struct HostReport {
    /// When it had its health certificate.
    pub(super) attested: Option<Instant>,
    pub(super) releases: Vec<Release>,
    pub(super) failures: Vec<String>,
}

/// An answer with keys.
pub(super) struct Release {
    pub(super) at: Instant,
    pub(super) took: Duration,
}

/// Registers hosts, and makes so many protectors for each.
pub(super) async fn prepare(site: &Site, hosts: usize, machines: usize) -> Outcome<Vec<Host>> {
    let mut prepared = Vec::new();
    let (target, nodes) = (site.target(), site.addresses());
    let folder: PathBuf = site.folder_of_hosts()?;
    let mut fabric = None;
    for number in 0..hosts {
        let name = format!("host-{number}");
        let (host, _) = http::attested(&folder.join(&name), &target, &name).await?;
        if fabric.is_none() {
            fabric = Some(http::fabric(&host, &target).await?);
        }
        prepared.push(Host {
            host: of_all_nodes(&folder.join(&name), &nodes)?,
            front: Front {
                nodes: nodes.clone(),
                preferred: number % nodes.len(),
            },
            machines: Vec::new(),
        });
    }
    let fabric = fabric.ok_or("there is no host")?;
    let made: Vec<_> = (0..hosts)
        .map(|_| {
            let fabric = fabric.clone();
            tokio::task::spawn_blocking(move || {
                protectors(&fabric, machines).map_err(|error| error.to_string())
            })
        })
        .collect();
    for (host, made) in prepared.iter_mut().zip(made) {
        host.machines = made.await??;
    }
    Ok(prepared)
}

/// The same host, which knows all nodes.
fn of_all_nodes(folder: &Path, nodes: &[SocketAddr]) -> Outcome<GuardedHost> {
    let folders = Folders::inside(folder);
    let urls: Vec<_> = nodes.iter().map(|node| format!("http://{node}")).collect();
    let services = Services {
        primary: Endpoints::below_each(&urls)?,
        fallback: None,
        certificate_authorities: None,
        dangerous_accept_unsigned_responses: false,
    };
    Configuration::HostGuardianService(services).store(&folders.configuration)?;
    Ok(GuardedHost::open(folders)?)
}

fn protectors(fabric: &GuardianCertificates, count: usize) -> Outcome<Vec<VerifiedProtector>> {
    let owner = Guardian::named("owner");
    let keys = Keys::of(&[owner]);
    (0..count)
        .map(|_| {
            let key = TransportKey::random(&mut System::new())?;
            let guardians = [fabric.clone()];
            Ok(create(&owner.certificates, &guardians, &key, &mut &keys)?)
        })
        .collect()
}

impl Host {
    /// Attests, and has the keys of one machine after the other released.
    pub(super) async fn power_on(mut self, released: Arc<AtomicUsize>) -> HostReport {
        let mut report = HostReport::default();
        let attested = self.host.attest(HealthKind::Encryption, Sides::Both).await;
        let certificate = match attested {
            Ok(attested) => attested.certificate,
            Err(error) => {
                report.failures.push(error.to_string());
                return report;
            }
        };
        report.attested = Some(Instant::now());
        for machine in &self.machines {
            let begun = Instant::now();
            let message = message(machine, &certificate);
            let answer = match message {
                Ok(message) => self.front.ask(&message).await,
                Err(error) => Err(error),
            };
            match answer {
                Ok(()) => {
                    released.fetch_add(1, Ordering::Relaxed);
                    let at = Instant::now();
                    report.releases.push(Release {
                        at,
                        took: at.duration_since(begun),
                    });
                }
                Err(error) => report.failures.push(error),
            }
        }
        report
    }
}

/// The request for a release as a host sends it.
fn message(machine: &VerifiedProtector, certificate: &Certificate) -> Result<Vec<u8>, String> {
    let pending = PendingRoll::new(
        machine.clone(),
        certificate.clone(),
        Algorithms::default(),
        ServiceVersion::V2,
    );
    let body = pending.request();
    let nonce = Nonce::random(&mut System::new()).map_err(|error| error.to_string())?;
    let signature = SignatureRequest::new(nonce, &body);
    let head = format!(
        "POST /KeyProtection/service/v2.0/rolltransportkey HTTP/1.1\r\nHost: guardian.example\r\nConnection: close\r\n\
         {CONTENT_DIGEST}: {}\r\n{ACCEPT_SIGNATURE}: {}\r\nContent-Length: {}\r\n\r\n",
        signature.content_digest(),
        signature.accept_signature(),
        body.len()
    );
    Ok([head.as_bytes(), &body].concat())
}

/// The nodes that a host may ask. It asks as `hgs-client` does, but does not listen any more to a node that kept silent.
struct Front {
    nodes: Vec<SocketAddr>,
    /// The one that answered last.
    preferred: usize,
}

impl Front {
    async fn ask(&mut self, message: &[u8]) -> Result<(), String> {
        let deadline = Instant::now() + LIMIT;
        let patience = match self.nodes.len() {
            1 => LIMIT,
            _ => PATIENCE,
        };
        let mut failure = String::new();
        while Instant::now() < deadline {
            for _ in 0..self.nodes.len() {
                let node = self.nodes[self.preferred];
                let answer = timeout(patience, exchange(node, message)).await;
                match answer {
                    Ok(Ok(answer)) if answer.starts_with(b"HTTP/1.1 200 ") => return Ok(()),
                    // A node that is killed ends its connections, some within an answer or before it.
                    Ok(Ok(answer)) if answer.starts_with(b"HTTP/1.1 4") => {
                        return Err(String::from_utf8_lossy(&answer).into_owned());
                    }
                    Ok(Ok(answer)) => failure = String::from_utf8_lossy(&answer).into_owned(),
                    Ok(Err(error)) => failure = error.to_string(),
                    Err(_) => failure = format!("no answer within {} s", patience.as_secs()),
                }
                self.preferred = (self.preferred + 1) % self.nodes.len();
            }
            sleep(PAUSE).await;
        }
        Err(failure)
    }
}

async fn exchange(node: SocketAddr, message: &[u8]) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(node).await?;
    stream.set_nodelay(true)?;
    stream.write_all(message).await?;
    let mut answer = Vec::with_capacity(32 * 1024);
    stream.read_to_end(&mut answer).await?;
    Ok(answer)
}
