//! Who may speak with whom inside a cluster: two authorities, and what they say about each node.
//!
//! The authority of *clients* vouches for every node where it answers or asks: at the cluster listener, and between a node
//! and etcd. The authority of *peers* vouches for members of etcd towards each other, so that nobody who may ask etcd can
//! become a part of it. Every node has the keys of both, sealed under the master key that all nodes share.

use std::sync::Arc;
use std::thread;

use hgs_crypto::random::System;
use hgs_crypto::rsa::PublicKey;
use hgs_crypto::{CryptoError, SecretBytes};
use hgs_custody::seal::MasterKey;
use hgs_custody::{
    CertifyError, PrivateKey as _, SoftwareKey, UnsealError, certify, pem, self_signed,
};
use hgs_files::{FileError, Readers};
use hgs_pki::issue::{IssueError, Issuer, Template};
use hgs_pki::pem::PemError;
use hgs_pki::{Certificate, Seconds, Thumbprint, Time, Validity, profile};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};

use crate::folder::ClusterFolder;
use crate::node::{Host, Node, NodeName};

/// Bits of the keys of authorities, which live for ten years.
const AUTHORITY_BITS: usize = 3072;
/// Bits of a node's key.
const NODE_BITS: usize = 2048;
/// How long what is said about a node holds.
const NODE_VALIDITY: Seconds = Seconds::from_days(365);
/// The clocks of nodes may differ by so much.
const CLOCK_SKEW: Seconds = Seconds::from_hours(1);
/// It is said again when so much is left.
const RENEWED_WITH: Seconds = Seconds::from_days(122);
/// Octets of the longest file here.
const MAX_FILE: usize = 64 * 1024;
/// For what the keys of the authorities are sealed.
const SEALED_FOR: &str = "cluster authority";

/// What an authority vouches for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Nodes, where they ask or answer.
    Clients,
    /// Members of etcd.
    Peers,
}

impl Purpose {
    const fn name(self) -> &'static str {
        match self {
            Self::Clients => "clients",
            Self::Peers => "peers",
        }
    }

    fn certificate_file(self) -> String {
        format!("{}-ca.pem", self.name())
    }

    fn key_file(self) -> String {
        format!("{}-ca.key.sealed", self.name())
    }

    /// What it says about this node.
    const fn node_file(self) -> &'static str {
        match self {
            Self::Clients => "node.pem",
            Self::Peers => "peer.pem",
        }
    }
}

/// An authority of a cluster.
#[derive(Debug)]
pub struct Authority {
    purpose: Purpose,
    certificate: Certificate,
    key: SoftwareKey,
}

/// Both authorities.
#[derive(Debug)]
pub struct Authorities {
    /// Of clients and servers.
    pub clients: Authority,
    /// Of members of etcd.
    pub peers: Authority,
}

/// What is said about a node: by each authority, over the same key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeCertificates {
    /// By that of clients.
    pub client: Certificate,
    /// By that of peers.
    pub peer: Certificate,
}

/// Certificates or keys of a cluster are not there, can't be made or can't be used.
#[derive(Debug, thiserror::Error)]
pub enum CredentialsError {
    /// A file.
    #[error(transparent)]
    File(#[from] FileError),
    /// A file is no certificate.
    #[error("{}: {error}", path.display())]
    Certificate {
        /// The file.
        path: std::path::PathBuf,
        /// Why not.
        error: PemError,
    },
    /// The key of an authority was sealed under another master key, or changed.
    #[error("{}: {error}", path.display())]
    Sealed {
        /// The file.
        path: std::path::PathBuf,
        /// Why it can't be opened.
        error: UnsealError,
    },
    /// Nothing could be made.
    #[error(transparent)]
    Certify(#[from] CertifyError),
    /// A name does not fit into a certificate.
    #[error(transparent)]
    Template(#[from] IssueError),
    /// The source of randomness failed.
    #[error(transparent)]
    Crypto(#[from] CryptoError),
    /// TLS refuses what the files hold.
    #[error("the certificates of this node can't be used: {0}")]
    Tls(String),
    /// Certificates that were handed over are not those of this node.
    #[error("what was handed over does not fit together: {0}")]
    Foreign(&'static str),
}

impl Authority {
    /// A new one for a cluster.
    fn new(purpose: Purpose, cluster: &str, now: Time) -> Result<Self, CredentialsError> {
        let validity = validity(now, profile::GUARDIAN_VALIDITY);
        let template = profile::cluster_authority(purpose.name(), cluster, validity);
        let (certificate, key) = self_signed(template, AUTHORITY_BITS)?;
        Ok(Self {
            purpose,
            certificate,
            key,
        })
    }

    /// Its own certificate.
    #[must_use]
    pub fn certificate(&self) -> &Certificate {
        &self.certificate
    }

    /// Vouches for a node whose public key is known.
    fn issue(
        &self,
        node: &Node,
        key: &PublicKey,
        now: Time,
    ) -> Result<Certificate, CredentialsError> {
        let host = match &node.address.host {
            Host::Address(address) => address.to_string(),
            Host::Name(name) => name.clone(),
        };
        let template = Template {
            common_name: node.name.to_string(),
            extended_key_usage: vec![
                profile::SERVER_AUTHENTICATION,
                profile::CLIENT_AUTHENTICATION,
            ],
            ..profile::communications(&[&host], validity(now, NODE_VALIDITY))?
        };
        let issuer = Issuer::Certificate(&self.certificate);
        Ok(certify(template, key, issuer, &self.key)?)
    }

    /// Its key, sealed: every node keeps it so.
    fn sealed_key(&self, master_key: &MasterKey) -> Result<Vec<u8>, CryptoError> {
        let sealer = master_key.sealer(SEALED_FOR);
        self.key
            .seal(&sealer, self.purpose.name(), 0, &mut System::new())
    }

    fn keep(&self, folder: &ClusterFolder, master_key: &MasterKey) -> Result<(), CredentialsError> {
        let sealed = self.sealed_key(master_key)?;
        let certificate = self.certificate.to_pem();
        hgs_files::replace(
            &folder.file(&self.purpose.key_file()),
            &sealed,
            Readers::Owner,
        )?;
        hgs_files::replace(
            &folder.file(&self.purpose.certificate_file()),
            certificate.as_bytes(),
            Readers::Owner,
        )?;
        Ok(())
    }

    fn read(
        purpose: Purpose,
        folder: &ClusterFolder,
        master_key: &MasterKey,
    ) -> Result<Self, CredentialsError> {
        let path = folder.file(&purpose.key_file());
        let sealed = hgs_files::read(&path, MAX_FILE)?;
        let sealer = master_key.sealer(SEALED_FOR);
        let key = SoftwareKey::unseal(&sealer, purpose.name(), 0, &sealed)
            .map_err(|error| CredentialsError::Sealed { path, error })?;
        Ok(Self {
            purpose,
            certificate: read_certificate(folder, &purpose.certificate_file())?,
            key,
        })
    }

    /// The key as it is handed to a node that joins, inside what is encrypted to it.
    #[must_use]
    pub fn to_handed_text(&self) -> SecretBytes {
        self.key.to_backup_text()
    }

    /// What [`Self::to_handed_text`] wrote, with the certificate.
    pub(crate) fn of_handed(
        purpose: Purpose,
        certificate: Certificate,
        key: &str,
    ) -> Result<Self, CredentialsError> {
        let key = SoftwareKey::from_backup_text(key)
            .map_err(|_| CredentialsError::Foreign("the key of an authority is none"))?;
        match key.public() == certificate.public_key() && certificate.is_certificate_authority() {
            true => Ok(Self {
                purpose,
                certificate,
                key,
            }),
            false => Err(CredentialsError::Foreign(
                "the key of an authority is not that of its certificate",
            )),
        }
    }
}

impl Authorities {
    /// New ones for a cluster. It takes about a second.
    ///
    /// # Errors
    /// When no keys can be made.
    pub fn new(cluster: &str, now: Time) -> Result<Self, CredentialsError> {
        thread::scope(|scope| {
            let peers = scope.spawn(|| Authority::new(Purpose::Peers, cluster, now));
            let clients = Authority::new(Purpose::Clients, cluster, now);
            let peers = peers
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            Ok(Self {
                clients: clients?,
                peers: peers?,
            })
        })
    }

    /// Those of this node's cluster.
    ///
    /// # Errors
    /// When they are not there, or were sealed under another master key.
    pub fn read(folder: &ClusterFolder, master_key: &MasterKey) -> Result<Self, CredentialsError> {
        Ok(Self {
            clients: Authority::read(Purpose::Clients, folder, master_key)?,
            peers: Authority::read(Purpose::Peers, folder, master_key)?,
        })
    }

    /// Keeps them, with their keys sealed.
    ///
    /// # Errors
    /// When the disk does not take them.
    pub fn keep(
        &self,
        folder: &ClusterFolder,
        master_key: &MasterKey,
    ) -> Result<(), CredentialsError> {
        self.clients.keep(folder, master_key)?;
        self.peers.keep(folder, master_key)
    }

    /// Vouches for a node.
    ///
    /// # Errors
    /// When its name or address does not fit into a certificate.
    pub fn issue(
        &self,
        node: &Node,
        key: &PublicKey,
        now: Time,
    ) -> Result<NodeCertificates, CredentialsError> {
        Ok(NodeCertificates {
            client: self.clients.issue(node, key, now)?,
            peer: self.peers.issue(node, key, now)?,
        })
    }

    /// The fingerprint by which a node that joins knows the cluster.
    #[must_use]
    pub fn fingerprint(&self) -> Thumbprint {
        self.clients.certificate.thumbprint()
    }
}

/// The key of this node: that which is there, or a new one. A join that is tried again goes on with the key of before.
///
/// # Errors
/// When it can't be read or made.
pub fn node_key(folder: &ClusterFolder) -> Result<SoftwareKey, CredentialsError> {
    let path = folder.file("node.key");
    if let Some(text) = hgs_files::optional(hgs_files::read_secret(&path, MAX_FILE))? {
        let mut bundle = hgs_custody::Bundle::default();
        let unreadable = |_| CredentialsError::Foreign("node.key is not the key of a node");
        bundle.add(text.expose(), None).map_err(unreadable)?;
        return bundle.private_key(None).map_err(unreadable);
    }
    let key = SoftwareKey::generate(NODE_BITS).map_err(CertifyError::from)?;
    let text = pem::write_private_key(&key, None, &mut System::new())?;
    hgs_files::create(&path, text.as_bytes(), Readers::Owner)?;
    Ok(key)
}

impl NodeCertificates {
    /// Keeps what is said about this node. Behind the certificate for clients stands that of its authority, by which a node
    /// that joins knows it.
    ///
    /// # Errors
    /// When the disk does not take it.
    pub fn keep(
        &self,
        folder: &ClusterFolder,
        clients: &Certificate,
    ) -> Result<(), CredentialsError> {
        let client = self.client.to_pem() + &clients.to_pem();
        for (purpose, text) in [
            (Purpose::Clients, client),
            (Purpose::Peers, self.peer.to_pem()),
        ] {
            let path = folder.file(purpose.node_file());
            hgs_files::replace(&path, text.as_bytes(), Readers::Owner)?;
        }
        Ok(())
    }

    /// Whether this is what two authorities say about this node and this key.
    pub(crate) fn check(
        &self,
        authorities: &Authorities,
        name: &NodeName,
        key: &PublicKey,
    ) -> Result<(), CredentialsError> {
        for (certificate, authority) in [
            (&self.client, &authorities.clients),
            (&self.peer, &authorities.peers),
        ] {
            if certificate
                .verify_issued_by(&authority.certificate)
                .is_err()
            {
                return Err(CredentialsError::Foreign(
                    "a certificate of this node was not issued by the cluster",
                ));
            }
            if certificate.public_key() != key || common_name(certificate) != Some(name.as_str()) {
                return Err(CredentialsError::Foreign(
                    "a certificate is not that of this node and its key",
                ));
            }
        }
        Ok(())
    }
}

/// Has the authorities say again what is said about this node, when a third of the time is left or less. Whether they did.
/// etcd and the cluster listener read the files again by themselves.
///
/// # Errors
/// When the files can't be read or written, or nothing can be issued.
pub fn renew(
    folder: &ClusterFolder,
    master_key: &MasterKey,
    node: &Node,
    now: Time,
) -> Result<bool, CredentialsError> {
    let is_due = |purpose: Purpose| -> Result<bool, CredentialsError> {
        let certificate = read_certificate(folder, purpose.node_file())?;
        let left = certificate.validity().not_after.since(now);
        Ok(left.is_none_or(|left| left <= RENEWED_WITH))
    };
    if !is_due(Purpose::Clients)? && !is_due(Purpose::Peers)? {
        return Ok(false);
    }
    let authorities = Authorities::read(folder, master_key)?;
    let key = node_key(folder)?;
    authorities
        .issue(node, key.public(), now)?
        .keep(folder, authorities.clients.certificate())?;
    Ok(true)
}

/// How long the certificates of a node and of its cluster's authorities are valid, by their files.
///
/// # Errors
/// When one can't be read.
pub fn validities(folder: &ClusterFolder) -> Result<Vec<(String, Validity)>, CredentialsError> {
    let of = |purpose: Purpose| [purpose.node_file().to_owned(), purpose.certificate_file()];
    let files = [Purpose::Clients, Purpose::Peers].into_iter().flat_map(of);
    files
        .map(|file| Ok((file.clone(), read_certificate(folder, &file)?.validity())))
        .collect()
}

/// How this node asks other nodes and etcd: with its certificate, and only who has one of the cluster. `protocol` is chosen
/// in the handshake.
///
/// # Errors
/// When the files can't be read or used.
pub fn client_config(
    folder: &ClusterFolder,
    protocol: &[u8],
) -> Result<Arc<ClientConfig>, CredentialsError> {
    client_config_with(roots(folder)?, for_tls(folder)?, protocol)
}

/// How others are asked that one of these authorities vouches for, with this certificate and key: all of it PEM.
pub(crate) fn client_config_of(
    authorities: &[u8],
    certificate: &[u8],
    key: &SecretBytes,
    protocol: &[u8],
) -> Result<Arc<ClientConfig>, CredentialsError> {
    let mut roots = RootCertStore::empty();
    for authority in certificates(authorities)? {
        roots.add(authority).map_err(tls)?;
    }
    if roots.is_empty() {
        return Err(tls("there is no certificate of an authority"));
    }
    client_config_with(roots, chain_and_key(certificate, key)?, protocol)
}

fn client_config_with(
    roots: RootCertStore,
    (chain, key): (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>),
    protocol: &[u8],
) -> Result<Arc<ClientConfig>, CredentialsError> {
    let mut config = ClientConfig::builder_with_provider(Arc::new(
        rustls::crypto::aws_lc_rs::default_provider(),
    ))
    .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
    .map_err(tls)?
    .with_root_certificates(roots)
    .with_client_auth_cert(chain, key)
    .map_err(tls)?;
    config.alpn_protocols = vec![protocol.to_vec()];
    Ok(Arc::new(config))
}

/// How the cluster listener of this node answers: with its certificate, to nodes by theirs, and to those that join without.
///
/// # Errors
/// When the files can't be read or used.
pub fn server_config(folder: &ClusterFolder) -> Result<Arc<ServerConfig>, CredentialsError> {
    let (chain, key) = for_tls(folder)?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(
        Arc::new(roots(folder)?),
        Arc::clone(&provider),
    )
    .allow_unauthenticated()
    .build()
    .map_err(tls)?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(tls)?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)
        .map_err(tls)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// Which node a verified certificate names.
#[must_use]
pub fn node_of(certificate: &CertificateDer<'_>) -> Option<NodeName> {
    let certificate = Certificate::from_der(certificate).ok()?;
    common_name(&certificate)?.parse().ok()
}

fn common_name(certificate: &Certificate) -> Option<&str> {
    certificate.subject().strip_prefix("CN=")
}

fn validity(now: Time, length: Seconds) -> Validity {
    Validity {
        not_before: now.checked_sub(CLOCK_SKEW).unwrap_or(Time::MIN),
        not_after: now.checked_add(length).unwrap_or(Time::MAX),
    }
}

fn read_certificate(folder: &ClusterFolder, name: &str) -> Result<Certificate, CredentialsError> {
    let path = folder.file(name);
    let octets = hgs_files::read(&path, MAX_FILE)?;
    let text = hgs_files::text(octets).map_err(|problem| FileError::at(&path, problem))?;
    let list = Certificate::list_from_pem(&text);
    list.and_then(|list| list.into_iter().next().ok_or(PemError::NoCertificate))
        .map_err(|error| CredentialsError::Certificate { path, error })
}

fn roots(folder: &ClusterFolder) -> Result<RootCertStore, CredentialsError> {
    let authority = read_certificate(folder, &Purpose::Clients.certificate_file())?;
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from(authority.der().to_vec()))
        .map_err(tls)?;
    Ok(roots)
}

fn for_tls(
    folder: &ClusterFolder,
) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), CredentialsError> {
    let chain = hgs_files::read(&folder.file(Purpose::Clients.node_file()), MAX_FILE)?;
    let key = hgs_files::read_secret(&folder.file("node.key"), MAX_FILE)?;
    chain_and_key(&chain, &key)
}

/// Both from PEM.
fn chain_and_key(
    chain: &[u8],
    key: &SecretBytes,
) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), CredentialsError> {
    let key = PrivateKeyDer::from_pem_slice(key.expose()).map_err(tls)?;
    Ok((certificates(chain)?, key))
}

fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, CredentialsError> {
    let list: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    list.map_err(tls)
}

fn tls(error: impl ToString) -> CredentialsError {
    CredentialsError::Tls(error.to_string())
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    const NOW: Time = Time::from_unix(1_800_000_000);
    const CLUSTER: &str = "0123456789abcdef0123456789abcdef";

    fn node(address: &str) -> Node {
        Node {
            name: "n1".parse().unwrap(),
            address: address.parse().unwrap(),
        }
    }

    fn made(address: &str) -> (tempfile::TempDir, ClusterFolder, MasterKey) {
        let state = tempfile::tempdir().unwrap();
        let folder = ClusterFolder::of_state(state.path());
        folder.make().unwrap();
        let master_key = MasterKey::generate(&mut System::new()).unwrap();
        let authorities = Authorities::new(CLUSTER, NOW).unwrap();
        authorities.keep(&folder, &master_key).unwrap();
        let key = node_key(&folder).unwrap();
        let issued = authorities
            .issue(&node(address), key.public(), NOW)
            .unwrap();
        issued
            .check(&authorities, &node(address).name, key.public())
            .unwrap();
        issued
            .keep(&folder, authorities.clients.certificate())
            .unwrap();
        (state, folder, master_key)
    }

    fn openssl_verify(
        folder: &ClusterFolder,
        authority: &str,
        name: [&str; 2],
        purpose: &str,
        file: &str,
    ) -> bool {
        let output = Command::new(hgs_testkit::tool("openssl", "openssl"))
            .args(["verify", "-x509_strict", "-attime"])
            .arg(NOW.unix().to_string())
            .arg("-CAfile")
            .arg(folder.file(authority))
            .args(name)
            .args(["-purpose", purpose])
            .arg(folder.file(file))
            .output()
            .unwrap();
        output.status.success()
    }

    #[test]
    fn openssl_accepts_what_each_authority_says_and_nothing_of_the_other() {
        for (address, names, wrong) in [
            (
                "192.0.2.7",
                ["-verify_ip", "192.0.2.7"],
                ["-verify_ip", "192.0.2.8"],
            ),
            (
                "n1.example",
                ["-verify_hostname", "n1.example"],
                ["-verify_hostname", "n2.example"],
            ),
        ] {
            let (_state, folder, _) = made(address);
            for purpose in ["sslserver", "sslclient"] {
                let verify = |authority, names, file| {
                    openssl_verify(&folder, authority, names, purpose, file)
                };
                assert!(verify("clients-ca.pem", names, "node.pem"));
                assert!(verify("peers-ca.pem", names, "peer.pem"));
                assert!(!verify("peers-ca.pem", names, "node.pem"));
                assert!(!verify("clients-ca.pem", names, "peer.pem"));
                assert!(!verify("clients-ca.pem", wrong, "node.pem"));
            }
        }
    }

    #[test]
    fn certificates_are_renewed_when_a_third_of_the_time_is_left() {
        let (_state, folder, master_key) = made("192.0.2.7");
        let node = node("192.0.2.7");
        let before = read_certificate(&folder, "node.pem").unwrap();
        let end = before.validity().not_after;
        let third = end.checked_sub(RENEWED_WITH).unwrap();
        let early = third.checked_sub(Seconds::new(1)).unwrap();
        assert!(!renew(&folder, &master_key, &node, early).unwrap());
        assert!(renew(&folder, &master_key, &node, third).unwrap());
        let after = read_certificate(&folder, "node.pem").unwrap();
        assert!(after.validity().not_after > end);
        assert_eq!(after.public_key(), before.public_key());
        // Also when they have ended.
        let late = after
            .validity()
            .not_after
            .checked_add(Seconds::new(1))
            .unwrap();
        assert!(renew(&folder, &master_key, &node, late).unwrap());
    }

    #[test]
    fn keys_of_authorities_are_sealed_under_the_master_key() {
        let (_state, folder, master_key) = made("192.0.2.7");
        let authorities = Authorities::read(&folder, &master_key).unwrap();
        let key = authorities.clients.key.pkcs8_der().expose().to_vec();
        let file = std::fs::read(folder.file("clients-ca.key.sealed")).unwrap();
        assert_eq!(hgs_testkit::part_of(&key, &file), None);
        let other = MasterKey::generate(&mut System::new()).unwrap();
        let error = Authorities::read(&folder, &other).unwrap_err();
        assert!(matches!(error, CredentialsError::Sealed { .. }), "{error}");
    }
}
