//! The clients of `[listen.api]` and of `[listen.console.client_certificates]`: whose TLS client certificates are taken, and
//! which roles each has.
//!
//! They are entries of a file, each with a certificate. The file is read again while the server runs. An entry that is gone
//! or was changed ends the access of whoever connected by it: a [`PinnedClient`] tells so, and its connections end.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};

use hgs_admin::types::CertificateRole;
use hgs_admin::{AdminError, Caller, ErrorCode, Identity, Role};
use hgs_clock::Clock;
use hgs_custody::Bundle;
use hgs_custody::bundle::BundleError;
use hgs_files::{FileError, FileProblem};
use hgs_pki::{Seconds, Thumbprint, Time, Validity};
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::NoServerSessionStorage;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, SignatureScheme};
use serde::Deserialize;
use tokio::sync::watch;
use tracing::{error, info, warn};

use super::certificate::{self, CurrentCertificate, FileState};
use crate::config;
use crate::guardian::CertificateInUse;
use crate::logging::PEERS;

/// Entries of the file.
const MAX_CLIENTS: usize = 1000;
/// Octets of a client's name.
const MAX_NAME: usize = 64;

/// Who connected with a certificate of the file, by the entry that stood there at that time.
#[derive(Debug, Clone)]
pub struct PinnedClient {
    /// Where it connected from.
    pub address: SocketAddr,
    entry: Arc<Entry>,
}

#[derive(Debug)]
struct Entry {
    name: String,
    thumbprint: Thumbprint,
    roles: Vec<Role>,
    /// Known once the certificate was seen: in its file, or at the first handshake.
    validity: OnceLock<Validity>,
    clock: Arc<dyn Clock>,
    /// Whether the entry is gone from the file, or was changed there.
    removed: watch::Sender<bool>,
}

impl PinnedClient {
    /// The name of the entry.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.entry.name
    }

    /// The thumbprint of its certificate.
    #[must_use]
    pub fn thumbprint(&self) -> Thumbprint {
        self.entry.thumbprint
    }

    /// What it may do, as long as its entry stands and its certificate is valid.
    ///
    /// # Errors
    /// When its access has ended.
    pub(crate) fn caller(&self) -> Result<Caller, AdminError> {
        let entry = &self.entry;
        if *entry.removed.borrow() || entry.check_date().is_err() {
            let message = format!("the access of {} has ended", entry.name);
            return Err(AdminError::new(ErrorCode::Forbidden, message));
        }
        Ok(Caller {
            identity: Identity::Certificate {
                thumbprint: entry.thumbprint,
                name: entry.name.clone(),
            },
            permissions: entry.roles.iter().copied().collect(),
        })
    }

    /// Resolves when its access ends: the entry was removed or changed, or the certificate has expired. The engine ends
    /// its connections then, and with them every answer that streams.
    pub async fn ended(&self) {
        let mut removed = self.entry.removed.subscribe();
        tokio::select! {
            _ = removed.wait_for(|removed| *removed) => {}
            () = self.entry.expired() => {}
        }
    }
}

impl PartialEq for PinnedClient {
    fn eq(&self, other: &Self) -> bool {
        self.address == other.address && Arc::ptr_eq(&self.entry, &other.entry)
    }
}

impl Eq for PinnedClient {}

impl Entry {
    fn check_date(&self) -> Result<(), NotAdmitted> {
        let Some(validity) = self.validity.get() else {
            return Ok(());
        };
        let now = self.clock.now();
        if now < validity.not_before {
            return Err(NotAdmitted::NotYetValid {
                name: self.name.clone(),
                not_before: validity.not_before,
            });
        }
        match validity.contains(now) {
            true => Ok(()),
            false => Err(NotAdmitted::Expired {
                name: self.name.clone(),
                not_after: validity.not_after,
            }),
        }
    }

    async fn expired(&self) {
        let end = self.validity.get().map(|validity| validity.not_after);
        match end.and_then(|end| end.checked_add(Seconds::new(1))) {
            Some(end) => self.clock.wait_until(end).await,
            None => std::future::pending().await,
        }
    }

    fn is_as(&self, other: &Self) -> bool {
        self.name == other.name && self.thumbprint == other.thumbprint && self.roles == other.roles
    }
}

/// Why a certificate opens no connection.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
enum NotAdmitted {
    #[error("certificate {0} is none of those in the file")]
    Unknown(Thumbprint),
    #[error("the certificate of {name} expired at {not_after}")]
    Expired { name: String, not_after: Time },
    #[error("the certificate of {name} is not valid before {not_before}")]
    NotYetValid { name: String, not_before: Time },
    #[error("what a peer sent is no certificate")]
    Malformed,
}

impl NotAdmitted {
    /// What the peer is told: each of these has an alert of its own.
    fn told(&self) -> CertificateError {
        match self {
            Self::Unknown(_) => CertificateError::ApplicationVerificationFailure,
            Self::Expired { .. } => CertificateError::Expired,
            Self::NotYetValid { .. } => CertificateError::NotValidYet,
            Self::Malformed => CertificateError::BadEncoding,
        }
    }
}

/// A file of clients, or an entry in it, can't be used. The operator is at fault.
#[derive(Debug, thiserror::Error)]
#[error("{}: {problem}", file.display())]
pub struct PinnedClientsError {
    /// The file.
    pub file: PathBuf,
    /// What is wrong with it.
    pub problem: PinnedClientsProblem,
}

/// What is wrong with a file of clients.
#[derive(Debug, thiserror::Error)]
pub enum PinnedClientsProblem {
    /// It can't be read.
    #[error("{0}")]
    Unreadable(FileProblem),
    /// It is not TOML, or has other keys.
    #[error("{0}")]
    Syntax(String),
    /// It has too many entries.
    #[error("over {MAX_CLIENTS} clients")]
    TooMany,
    /// An entry is not one.
    #[error("client `{name}`: {problem}")]
    Client {
        /// Its name.
        name: String,
        /// What is wrong with it.
        problem: Box<ClientProblem>,
    },
}

/// What is wrong with one entry.
#[derive(Debug, thiserror::Error)]
pub enum ClientProblem {
    /// Names stand in the audit log.
    #[error("a name has 1 to {MAX_NAME} letters, digits, `.`, `-` and `_`")]
    Name,
    /// Another entry has the name.
    #[error("there is another client of this name")]
    SecondOfName,
    /// Another entry has the certificate.
    #[error("client `{0}` has the same certificate")]
    SecondOfCertificate(String),
    /// It may do nothing.
    #[error("it has no roles")]
    NoRoles,
    /// Both or neither of the two ways to name a certificate.
    #[error("give one of `certificate` and `thumbprint`")]
    NotOneCertificate,
    /// No thumbprint.
    #[error("the thumbprint is not 64 hexadecimal digits")]
    Thumbprint,
    /// The file of its certificate can't be read.
    #[error("its certificate can't be read: {0}")]
    Unreadable(FileError),
    /// The file of its certificate holds something else.
    #[error("{}: {error}", file.display())]
    Content {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        error: BundleError,
    },
    /// Which of several is meant is not said.
    #[error("{} holds {count} certificates: name a file with the client's alone", file.display())]
    NotOneInFile {
        /// The file.
        file: PathBuf,
        /// How many.
        count: usize,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Given {
    #[serde(default)]
    client: Vec<GivenClient>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct GivenClient {
    name: String,
    certificate: Option<PathBuf>,
    thumbprint: Option<String>,
    roles: Vec<Role>,
}

/// What the file says.
struct FileOfClients {
    clients: BTreeMap<Thumbprint, Arc<Entry>>,
    /// Entries whose certificate can't be read: nobody has access by them.
    left_out: Vec<PinnedClientsError>,
    /// The files of certificates that it names.
    certificates: Vec<PathBuf>,
}

/// The clients of one listener, as its file has them now.
pub(crate) struct PinnedClients {
    /// The section of the listener.
    section: &'static str,
    file: PathBuf,
    clock: Arc<dyn Clock>,
    current: RwLock<BTreeMap<Thumbprint, Arc<Entry>>>,
    /// The files of certificates, and the state of all files at the last attempt to read them.
    seen: Mutex<(Vec<PathBuf>, Vec<FileState>)>,
}

impl fmt::Debug for PinnedClients {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "PinnedClients({}, {})",
            self.section,
            self.file.display()
        )
    }
}

impl PinnedClients {
    /// Reads the file for the listener of `section`. An entry whose certificate can't be read is left out, which is logged.
    pub(super) fn load(
        section: &'static str,
        file: PathBuf,
        clock: Arc<dyn Clock>,
    ) -> Result<Arc<Self>, PinnedClientsError> {
        let clients = Self {
            section,
            file,
            clock,
            current: RwLock::default(),
            seen: Mutex::default(),
        };
        clients.reload()?;
        Ok(Arc::new(clients))
    }

    /// Reads the file again. Whoever connected by an entry that is gone or was changed loses access at once. When the
    /// file can't be used, the entries stay as they were.
    pub(super) fn reload(&self) -> Result<(), PinnedClientsError> {
        // First the state: a change during the reading is then noticed at the next look.
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.1 = self.states(&seen.0);
        let read = read(&self.file, &self.clock).inspect_err(|error| {
            let section = self.section;
            error!(%error, "the clients of [{section}] stay as they were");
        })?;
        seen.1 = self.states(&read.certificates);
        seen.0 = read.certificates;
        drop(seen);
        for error in &read.left_out {
            error!(%error, "a client of [{}] has no access", self.section);
        }
        info!(
            file = %self.file.display(),
            clients = read.clients.len(),
            "the clients of [{}] were read",
            self.section
        );
        self.take(read.clients);
        Ok(())
    }

    /// Reads the file again if it, or a certificate that it names, has changed since it was last read.
    pub(super) fn reload_if_changed(&self) {
        let has_changed = {
            let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
            seen.1 != self.states(&seen.0)
        };
        if has_changed {
            // A failure was logged.
            let _ = self.reload();
        }
    }

    fn states(&self, certificates: &[PathBuf]) -> Vec<FileState> {
        let all = std::iter::once(&self.file).chain(certificates);
        all.map(|file| certificate::state_of(file)).collect()
    }

    /// Entries that stay as they are keep their connections.
    fn take(&self, mut clients: BTreeMap<Thumbprint, Arc<Entry>>) {
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        for (thumbprint, old) in &*current {
            match clients.get_mut(thumbprint) {
                Some(new) if new.is_as(old) => {
                    // The file of its certificate may be named now, where only the thumbprint was.
                    if let Some(validity) = new.validity.get() {
                        old.validity.get_or_init(|| *validity);
                    }
                    *new = Arc::clone(old);
                }
                _ => {
                    let section = self.section;
                    info!(client = old.name, %thumbprint, "a client of [{section}] has no access any more");
                    old.removed.send_replace(true);
                }
            }
        }
        *current = clients;
    }

    /// The caller with this certificate.
    fn find(&self, certificate: &CertificateDer<'_>) -> Result<Arc<Entry>, NotAdmitted> {
        let thumbprint = Thumbprint::of(certificate);
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        let entry = current
            .get(&thumbprint)
            .ok_or(NotAdmitted::Unknown(thumbprint))?;
        let validity = Validity::of_any_certificate(certificate);
        let validity = validity.map_err(|_| NotAdmitted::Malformed)?;
        entry.validity.get_or_init(|| validity);
        entry.check_date()?;
        Ok(Arc::clone(entry))
    }

    /// Who connected with this certificate, whose key it was shown to have.
    pub(super) fn client(
        &self,
        certificate: &CertificateDer<'_>,
        address: SocketAddr,
    ) -> Option<PinnedClient> {
        let entry = self.find(certificate).ok()?;
        Some(PinnedClient { address, entry })
    }

    /// The certificates by the names of their entries, as far as it is known how long they are valid.
    pub(crate) fn certificates(&self) -> Vec<CertificateInUse> {
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        let known = current.values().filter_map(|entry| {
            let (role, name) = (CertificateRole::Client, entry.name.clone());
            Some(CertificateInUse::new(role, name, *entry.validity.get()?))
        });
        known.collect()
    }
}

/// Entries that can't be used, for `hgs server check`. The file itself has to be readable.
pub(crate) fn check(file: &Path) -> Result<Vec<PinnedClientsError>, PinnedClientsError> {
    let clock: Arc<dyn Clock> = Arc::new(hgs_clock::SystemClock);
    read(file, &clock).map(|read| read.left_out)
}

fn read(file: &Path, clock: &Arc<dyn Clock>) -> Result<FileOfClients, PinnedClientsError> {
    let failed = |problem| PinnedClientsError {
        file: file.to_path_buf(),
        problem,
    };
    let text = config::read_text(file)
        .map_err(|problem| failed(PinnedClientsProblem::Unreadable(problem)))?;
    let given: Given = toml::from_str(&text)
        .map_err(|error| failed(PinnedClientsProblem::Syntax(error.to_string())))?;
    if given.client.len() > MAX_CLIENTS {
        return Err(failed(PinnedClientsProblem::TooMany));
    }
    let mut found = FileOfClients {
        clients: BTreeMap::new(),
        left_out: Vec::new(),
        certificates: Vec::new(),
    };
    let mut names = BTreeSet::new();
    for client in given.client {
        let name = client.name.clone();
        let of_client = |problem| {
            let name = name.clone();
            let problem = Box::new(problem);
            failed(PinnedClientsProblem::Client { name, problem })
        };
        if !names.insert(name.clone()) {
            return Err(of_client(ClientProblem::SecondOfName));
        }
        let (thumbprint, validity) = match identify(&client, file, &mut found.certificates) {
            Ok(identified) => identified,
            // Whoever takes away the file of a certificate means that nobody has access by it.
            Err(problem) if problem.is_of_certificate_file() => {
                found.left_out.push(of_client(problem));
                continue;
            }
            Err(problem) => return Err(of_client(problem)),
        };
        let entry = Entry {
            name: client.name,
            thumbprint,
            roles: client.roles,
            validity: validity.map_or_else(OnceLock::new, OnceLock::from),
            clock: Arc::clone(clock),
            removed: watch::Sender::new(false),
        };
        if let Some(other) = found.clients.insert(thumbprint, Arc::new(entry)) {
            let other = other.name.clone();
            return Err(of_client(ClientProblem::SecondOfCertificate(other)));
        }
    }
    Ok(found)
}

/// The certificate of an entry: its thumbprint, and its validity where the certificate is there.
fn identify(
    client: &GivenClient,
    file: &Path,
    certificates: &mut Vec<PathBuf>,
) -> Result<(Thumbprint, Option<Validity>), ClientProblem> {
    let plain = |octet: u8| octet.is_ascii_alphanumeric() || b".-_".contains(&octet);
    if !(1..=MAX_NAME).contains(&client.name.len()) || !client.name.bytes().all(plain) {
        return Err(ClientProblem::Name);
    }
    if client.roles.is_empty() {
        return Err(ClientProblem::NoRoles);
    }
    match (&client.certificate, &client.thumbprint) {
        (Some(certificate), None) => {
            let folder = file.parent().unwrap_or_else(|| Path::new("."));
            let certificate = folder.join(certificate);
            certificates.push(certificate.clone());
            let der = read_certificate(&certificate)?;
            let validity = Validity::of_any_certificate(&der).ok();
            Ok((Thumbprint::of(&der), validity))
        }
        (None, Some(thumbprint)) => {
            let thumbprint = thumbprint.parse();
            Ok((thumbprint.map_err(|_| ClientProblem::Thumbprint)?, None))
        }
        _ => Err(ClientProblem::NotOneCertificate),
    }
}

fn read_certificate(file: &Path) -> Result<Vec<u8>, ClientProblem> {
    let octets = config::read_octets(file)
        .map_err(|problem| ClientProblem::Unreadable(FileError::at(file, problem)))?;
    let content = |error| ClientProblem::Content {
        file: file.to_path_buf(),
        error,
    };
    let certificates = Bundle::read(&octets, None).and_then(Bundle::certificates_der);
    let mut certificates = certificates.map_err(content)?;
    match (certificates.pop(), certificates.len()) {
        (Some(certificate), 0) => Ok(certificate),
        (_, others) => Err(ClientProblem::NotOneInFile {
            file: file.to_path_buf(),
            count: others + 1,
        }),
    }
}

impl ClientProblem {
    fn is_of_certificate_file(&self) -> bool {
        matches!(
            self,
            Self::Unreadable(_) | Self::Content { .. } | Self::NotOneInFile { .. }
        )
    }
}

/// How a listener answers that asks for certificates: TLS 1.3 with that of one of `clients`.
pub(super) fn tls_settings(
    clients: &Arc<PinnedClients>,
    certificate: Arc<CurrentCertificate>,
) -> Arc<rustls::ServerConfig> {
    let provider = certificate::provider();
    let verifier = ClientVerifier {
        clients: Arc::clone(clients),
        algorithms: provider.signature_verification_algorithms,
    };
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("the provider has cipher suites for this version")
        .with_client_cert_verifier(Arc::new(verifier))
        .with_cert_resolver(certificate);
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    // Who connects again shows the certificate again.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Arc::new(config)
}

/// Takes the certificates of the file and no others, whoever issued them, on the days when they are valid.
#[derive(Debug)]
struct ClientVerifier {
    clients: Arc<PinnedClients>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ClientCertVerifier for ClientVerifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        certificate: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        match self.clients.find(certificate) {
            Ok(_) => Ok(ClientCertVerified::assertion()),
            Err(refused) => {
                let section = self.clients.section;
                warn!(target: PEERS, "a client of [{section}] was refused: {refused}");
                Err(refused.told().into())
            }
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn refused(text: &str) -> String {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("clients.toml");
        fs::write(&file, text).unwrap();
        check(&file).expect_err(text).problem.to_string()
    }

    fn entry(name: &str, digit: char) -> String {
        let thumbprint = digit.to_string().repeat(64);
        format!(
            "[[client]]\nname = \"{name}\"\nthumbprint = \"{thumbprint}\"\nroles = [\"reviewer\"]\n"
        )
    }

    #[test]
    fn each_entry_has_a_name_a_certificate_and_roles_of_its_own() {
        let one = entry("console", 'a');
        for (text, reason) in [
            (entry("a b", 'a'), "a name has"),
            (entry("", 'a'), "a name has"),
            (entry(&"x".repeat(65), 'a'), "a name has"),
            (one.replace("\"reviewer\"", ""), "no roles"),
            (one.replace("reviewer", "root"), "unknown variant"),
            (one.replace("aa", "ag"), "64 hexadecimal digits"),
            (
                one.replace("thumbprint", "certificate") + "thumbprint = \"a\"\n",
                "give one of",
            ),
            (one.clone() + "pin = 1\n", "unknown field"),
            (
                one.clone() + &entry("console", 'b'),
                "another client of this name",
            ),
            (
                one.clone() + &entry("other", 'a'),
                "`console` has the same certificate",
            ),
            ("[listen]\n".to_owned(), "unknown field"),
        ] {
            let found = refused(&text);
            assert!(found.contains(reason), "{text}: {found}");
        }
        let many: String = (0..=MAX_CLIENTS)
            .map(|number| format!("[[client]]\nname = \"c{number}\"\nroles = []\n"))
            .collect();
        assert!(refused(&many).contains("over 1000 clients"));
    }

    #[test]
    fn an_entry_without_its_certificate_is_left_out_and_the_others_stay() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("clients.toml");
        let absent =
            "[[client]]\nname = \"gone\"\ncertificate = \"gone.pem\"\nroles = [\"reviewer\"]\n";
        fs::write(&file, entry("console", 'a') + absent).unwrap();
        let left_out = check(&file).unwrap();
        assert_eq!(left_out.len(), 1);
        assert!(left_out[0].to_string().contains("client `gone`"));
        fs::write(folder.path().join("gone.pem"), "no certificate").unwrap();
        assert_eq!(check(&file).unwrap().len(), 1);
    }
}
