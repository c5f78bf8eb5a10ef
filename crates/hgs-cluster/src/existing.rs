//! An etcd that runs already, for others too perhaps: where it is, how nodes prove who they are there, and whether it can be
//! used.
//!
//! Nodes have keys below one prefix there, and nothing else: they start no member, change no members, and neither compact nor
//! defragment. What is encrypted and chained in an etcd of the nodes' own is so here.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use hgs_crypto::hash::sha256;
use hgs_etcd::{Alarm, AlarmKind, Client, Code, Error, MemberError, Settings};
use hgs_files::FileError;
use rustls::ClientConfig;
use serde::{Deserialize, Serialize};

use crate::credentials::{CredentialsError, client_config_of};
use crate::folder::MAX_NODES;
use crate::membership::MembershipError;
use crate::node::{AddressError, Host, Node, text};
use crate::order::{
    ClusterId, Keyspace, ProbeError, admit, announce, announced, is_untouched, probe,
};

/// Operations that etcd takes in one list of a transaction unless it is told otherwise, which can't be asked.
pub const MAX_TXN_OPERATIONS: usize = 128;
/// The oldest version that has all that is used: members that learn, and transactions that answer at once without a leader.
const OLDEST: (u32, u32) = (3, 4);
/// The URLs that can be given.
const MAX_URLS: usize = 9;
/// The port of etcd for clients.
const DEFAULT_PORT: u16 = 2379;
/// Octets of the longest file.
const MAX_FILE: usize = 256 * 1024;
/// How long a member, and all together, may take while it is looked whether they can be used.
const PATIENCE: Duration = Duration::from_secs(3);
const BUDGET: Duration = Duration::from_secs(10);

/// Where a member of etcd listens for clients: `https://etcd-1.example:2379`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct EtcdUrl {
    host: Host,
    port: u16,
    secure: bool,
}

/// A text that is not the URL of a member of etcd.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EtcdUrlError {
    /// Something else.
    #[error("{0:?} is not the URL of a member of etcd, such as https://192.0.2.1:2379")]
    Form(String),
    /// Its host.
    #[error(transparent)]
    Host(#[from] AddressError),
    /// It would be reached without TLS from another machine.
    #[error(
        "{0:?}: without TLS etcd is used at a loopback address only, such as http://127.0.0.1:2379"
    )]
    Plain(String),
}

impl FromStr for EtcdUrl {
    type Err = EtcdUrlError;

    fn from_str(text: &str) -> Result<Self, EtcdUrlError> {
        let form = || EtcdUrlError::Form(text.to_owned());
        let (scheme, rest) = text.split_once("://").ok_or_else(form)?;
        let secure = match scheme {
            "https" => true,
            "http" => false,
            _ => return Err(form()),
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        // The last colon of an IPv6 address is in its brackets.
        let (host, port) = match rest.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => {
                let port = port.parse().ok().filter(|port| *port != 0);
                (host, port.ok_or_else(form)?)
            }
            _ => (rest, DEFAULT_PORT),
        };
        if host.contains(':') && !host.starts_with('[') {
            return Err(form());
        }
        let host: Host = host.parse()?;
        let is_here = matches!(host, Host::Address(address) if address.is_loopback());
        match secure || is_here {
            true => Ok(Self { host, port, secure }),
            false => Err(EtcdUrlError::Plain(text.to_owned())),
        }
    }
}

impl EtcdUrl {
    /// Host and port.
    fn address(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }
}

impl fmt::Display for EtcdUrl {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.secure { "https" } else { "http" };
        write!(formatter, "{scheme}://{}", self.address())
    }
}

text!(EtcdUrl: EtcdUrlError);

/// What all nodes know of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EtcdPlace {
    /// Members, in the order in which they are asked.
    pub urls: Vec<EtcdUrl>,
    /// Where the keys of the cluster begin.
    pub prefix: Keyspace,
}

/// The files by which a node and its members know each other. Each node has its own; they are read again when they change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EtcdFiles {
    /// Certificates of the authorities of etcd's members.
    pub ca: PathBuf,
    /// The certificate of this machine, as a client of etcd.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

/// An etcd that runs already, as one node uses it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExistingEtcd {
    /// What all nodes know.
    pub place: EtcdPlace,
    /// None where it is at a loopback address without TLS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub files: Option<EtcdFiles>,
}

/// An etcd that runs already can't be used.
#[derive(Debug, thiserror::Error)]
pub enum ExistingEtcdError {
    /// Not so many.
    #[error("there are {0} URLs of etcd; 1 to {MAX_URLS} can be")]
    Urls(usize),
    /// Some with TLS, some without.
    #[error("all URLs of etcd begin with https://, or all with http://")]
    Mixed,
    /// Who speaks TLS proves who it is.
    #[error("etcd at {0} is reached by TLS, and this machine has been given no certificate for it")]
    WithoutCertificate(EtcdUrl),
    /// Files that nothing uses.
    #[error("etcd at {0} is reached without TLS, and uses no certificates")]
    NeedlessCertificate(EtcdUrl),
    /// A file.
    #[error(transparent)]
    File(#[from] FileError),
    /// What the files hold.
    #[error("the certificates for etcd can't be used: {0}")]
    Credentials(CredentialsError),
    /// Nobody answers.
    #[error("etcd can't be reached: {0}")]
    Unreachable(String),
    /// Who answers is not vouched for by the authority that was named.
    #[error("{address}: what answers there is not an etcd that {} vouches for: {reason}", ca.display())]
    Stranger {
        /// Where.
        address: String,
        /// The file of authorities.
        ca: PathBuf,
        /// What TLS says.
        reason: String,
    },
    /// The certificate of this machine is none that etcd takes.
    #[error("{address}: etcd does not accept the certificate of this machine: {reason}")]
    NotAccepted {
        /// Where.
        address: String,
        /// What TLS says.
        reason: String,
    },
    /// The user of the certificate has too few rights.
    #[error("etcd does not let this machine read and write keys below `{prefix}/`: {reason}")]
    NotAllowed {
        /// Of the keys.
        prefix: Keyspace,
        /// In etcd's words.
        reason: String,
    },
    /// It has no quorum.
    #[error("etcd has no leader: {0}")]
    NoQuorum(String),
    /// It lacks what is used.
    #[error("{address}: this is etcd {version}, and {}.{} or later is needed", OLDEST.0, OLDEST.1)]
    TooOld {
        /// Where.
        address: String,
        /// Its version.
        version: String,
    },
    /// Its quota is used up.
    #[error("etcd takes nothing more: the quota of its database is used up (alarm NOSPACE)")]
    Full,
    /// Its members differ.
    #[error("etcd has found that the databases of its members differ (alarm CORRUPT)")]
    Corrupt,
    /// Another cluster has its keys there.
    #[error("another cluster has its keys below `{0}/` in this etcd")]
    Taken(Keyspace),
    /// The cluster that is joined has none there.
    #[error(
        "the cluster has no keys below `{0}/` in this etcd: it is another one than that of the other nodes"
    )]
    Absent(Keyspace),
    /// Something else.
    #[error("etcd refuses: {0}")]
    Refused(String),
}

impl ExistingEtcdError {
    /// What the operator can do about it.
    #[must_use]
    pub fn remedy(&self) -> Option<String> {
        let remedy = match self {
            Self::File(error) => return error.remedy(),
            Self::WithoutCertificate(_) => {
                "name its files with `--etcd-ca`, `--etcd-certificate` and `--etcd-key`"
            }
            Self::NeedlessCertificate(_) => {
                "leave out `--etcd-ca`, `--etcd-certificate` and `--etcd-key`"
            }
            Self::Unreachable(_) => {
                "see that etcd runs, and that this machine reaches its port for clients"
            }
            Self::Stranger { .. } => {
                "name the authority that has issued the certificates of etcd's members with `--etcd-ca`, and the members as \
                 those certificates name them"
            }
            Self::NotAccepted { .. } => {
                "name a certificate with `--etcd-certificate` that the authority of etcd's clients (its --trusted-ca-file) has issued"
            }
            Self::NotAllowed { .. } => {
                "give the user that the certificate names (its CN) a role with these rights: docs/cluster.md, \"An etcd that runs already\""
            }
            Self::NoQuorum(_) => {
                "see that more than half of its members run: `etcdctl endpoint status --cluster`"
            }
            Self::TooOld { .. } => "upgrade etcd",
            Self::Full => "make room in it, then `etcdctl alarm disarm`",
            Self::Corrupt => "replace the member that `etcdctl alarm list` names",
            Self::Taken(_) => "choose another prefix with `--etcd-prefix`",
            Self::Absent(_) => "see which etcd the other nodes use: `hgs cluster status` there",
            _ => return None,
        };
        Some(remedy.to_owned())
    }
}

/// What the files of a node hold.
#[derive(Debug, Clone)]
pub struct EtcdTls {
    /// How etcd is asked.
    pub config: Arc<ClientConfig>,
    /// Of all octets: another one when a file has changed.
    digest: [u8; 32],
}

impl PartialEq for EtcdTls {
    fn eq(&self, other: &Self) -> bool {
        self.digest == other.digest
    }
}

impl ExistingEtcd {
    /// Whether it is told as a whole.
    ///
    /// # Errors
    /// What does not fit together.
    pub fn new(place: EtcdPlace, files: Option<EtcdFiles>) -> Result<Self, ExistingEtcdError> {
        let existing = Self { place, files };
        existing.fits()?;
        Ok(existing)
    }

    pub(crate) fn fits(&self) -> Result<(), ExistingEtcdError> {
        let urls = &self.place.urls;
        let Some(first) = urls.first().filter(|_| urls.len() <= MAX_URLS) else {
            return Err(ExistingEtcdError::Urls(urls.len()));
        };
        match (first.secure, &self.files) {
            _ if urls.iter().any(|url| url.secure != first.secure) => Err(ExistingEtcdError::Mixed),
            (true, None) => Err(ExistingEtcdError::WithoutCertificate(first.clone())),
            (false, Some(_)) => Err(ExistingEtcdError::NeedlessCertificate(first.clone())),
            _ => Ok(()),
        }
    }

    /// Host and port of each member.
    #[must_use]
    pub fn endpoints(&self) -> Vec<String> {
        self.place.urls.iter().map(EtcdUrl::address).collect()
    }

    /// Reads the files. None where there is no TLS.
    ///
    /// # Errors
    /// When they can't be read, or do not belong together, as while they are being replaced.
    pub fn tls(&self) -> Result<Option<EtcdTls>, ExistingEtcdError> {
        let Some(EtcdFiles {
            ca,
            certificate,
            key,
        }) = &self.files
        else {
            return Ok(None);
        };
        let read = |path: &Path| hgs_files::read(path, MAX_FILE);
        let (ca, certificate) = (read(ca)?, read(certificate)?);
        let key = hgs_files::read_secret(key, MAX_FILE)?;
        let digests = [&*ca, &*certificate, key.expose()].map(sha256);
        let config = client_config_of(&ca, &certificate, &key, b"h2");
        Ok(Some(EtcdTls {
            config: config.map_err(ExistingEtcdError::Credentials)?,
            digest: sha256(&digests.concat()),
        }))
    }

    /// Looks whether this machine can use it, and which cluster has its keys there.
    ///
    /// # Errors
    /// Why it can't be used.
    pub async fn look(&self) -> Result<Option<ClusterId>, ExistingEtcdError> {
        let client = Client::new(Settings {
            members: self.endpoints(),
            tls: self.tls()?.map(|tls| tls.config),
            patience: PATIENCE,
            budget: BUDGET,
        });
        self.look_at_members(&client).await?;
        let cluster = probe(&client, &self.place.prefix).await;
        let cluster = cluster.map_err(|error| match error {
            ProbeError::Etcd(error) => self.refused(error),
            ProbeError::Layout => ExistingEtcdError::Taken(self.place.prefix.clone()),
        })?;
        // Only some users may ask for alarms. A full etcd then shows itself when the first node writes.
        let alarms: Vec<Alarm> = client.alarms().await.unwrap_or_default();
        let is_on = |kind| alarms.iter().any(|alarm| alarm.kind == kind);
        match () {
            () if is_on(AlarmKind::Corrupt) => Err(ExistingEtcdError::Corrupt),
            () if is_on(AlarmKind::NoSpace) => Err(ExistingEtcdError::Full),
            () => Ok(cluster),
        }
    }

    /// That the members which answer are etcd, and not too old. Some may be away.
    async fn look_at_members(&self, client: &Client) -> Result<(), ExistingEtcdError> {
        let mut away = Vec::new();
        for (place, address) in self.endpoints().into_iter().enumerate() {
            let status = match client.status(place).await {
                Err(error) => Err(client.try_certificate(place).await.err().unwrap_or(error)),
                status => status,
            };
            match status {
                Ok(status) if is_too_old(&status.version) => {
                    let version = status.version;
                    return Err(ExistingEtcdError::TooOld { address, version });
                }
                Ok(_) => {}
                Err(
                    error @ (MemberError::Connect(_)
                    | MemberError::Broken(_)
                    | MemberError::Unreachable(_)
                    | MemberError::Late(_)),
                ) => away.push(format!("{address}: {error}")),
                Err(error) => {
                    let members = vec![(address, error)];
                    return Err(self.refused(Error { members }));
                }
            }
        }
        match away.len() == self.place.urls.len() {
            true => Err(ExistingEtcdError::Unreachable(away.join("; "))),
            false => Ok(()),
        }
    }

    fn refused(&self, error: Error) -> ExistingEtcdError {
        let prefix = || self.place.prefix.clone();
        for (address, error) in &error.members {
            let address = address.clone();
            match error {
                MemberError::Stranger(reason) => {
                    let files = self.files.as_ref();
                    return ExistingEtcdError::Stranger {
                        address,
                        ca: files.map(|files| files.ca.clone()).unwrap_or_default(),
                        reason: reason.clone(),
                    };
                }
                MemberError::NotAccepted(reason) => {
                    let reason = reason.clone();
                    return ExistingEtcdError::NotAccepted { address, reason };
                }
                _ => {}
            }
        }
        match error.refusal() {
            Some(status) if is_about_rights(status.code, &status.message) => {
                ExistingEtcdError::NotAllowed {
                    prefix: prefix(),
                    reason: status.message.clone(),
                }
            }
            Some(status) => ExistingEtcdError::Refused(status.to_string()),
            None if error.lacks_leader() => ExistingEtcdError::NoQuorum(error.to_string()),
            None => ExistingEtcdError::Unreachable(error.to_string()),
        }
    }
}

/// A certificate whose CN names no user is told as an empty name.
fn is_about_rights(code: Code, message: &str) -> bool {
    /// UNAUTHENTICATED of gRPC.
    const UNAUTHENTICATED: Code = Code::Other(16);
    code == Code::PermissionDenied
        || code == UNAUTHENTICATED
        || message == "etcdserver: user name is empty"
        || message == "etcdserver: user name not found"
}

fn is_too_old(version: &str) -> bool {
    let mut numbers = version.split('.').map(|part| part.parse::<u32>().ok());
    let (major, minor) = (numbers.next().flatten(), numbers.next().flatten());
    // What has no number is something new.
    major.zip(minor).is_some_and(|version| version < OLDEST)
}

/// Whether a node can be added, under its name and address.
///
/// # Errors
/// When these are another node's, or etcd does not answer.
pub async fn check_free(
    client: &Client,
    keys: &Keyspace,
    node: &Node,
) -> Result<(), MembershipError> {
    let nodes = announced(client, keys).await.map_err(not_ready)?;
    let by_address = nodes.iter().find(|other| other.address == node.address);
    match nodes.iter().find(|other| other.name == node.name) {
        // Added before, and it has not begun.
        Some(same)
            if same == node
                && is_untouched(client, keys, &node.name)
                    .await
                    .map_err(not_ready)? =>
        {
            Ok(())
        }
        Some(_) => Err(MembershipError::NameTaken(node.name.clone())),
        None => match by_address {
            Some(other) => Err(MembershipError::AddressTaken(other.name.to_string())),
            None if nodes.len() >= MAX_NODES => Err(MembershipError::Full),
            None => Ok(()),
        },
    }
}

/// Adds a node. Adding it again before it has begun changes nothing. All nodes, with the new one.
///
/// # Errors
/// As [`check_free`].
pub async fn add(
    client: &Client,
    keys: &Keyspace,
    node: &Node,
) -> Result<Vec<Node>, MembershipError> {
    check_free(client, keys, node).await?;
    admit(client, keys, &node.name).await.map_err(not_ready)?;
    announce(client, keys, node).await.map_err(not_ready)?;
    announced(client, keys).await.map_err(not_ready)
}

fn not_ready(error: impl fmt::Display) -> MembershipError {
    MembershipError::NotReady(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_read_and_plain_ones_only_at_loopback() {
        for (text, written) in [
            ("https://192.0.2.7", "https://192.0.2.7:2379"),
            (
                "https://etcd-1.Example:4000/",
                "https://etcd-1.example:4000",
            ),
            ("https://[2001:db8::7]", "https://[2001:db8::7]:2379"),
            ("http://127.0.0.1:23790", "http://127.0.0.1:23790"),
            ("http://[::1]:2379", "http://[::1]:2379"),
        ] {
            let url: EtcdUrl = text.parse().unwrap();
            assert_eq!(url.to_string(), written);
            assert_eq!(written.parse::<EtcdUrl>(), Ok(url));
        }
        for text in [
            "http://192.0.2.7:2379",
            "http://etcd:2379",
            "http://localhost:2379",
        ] {
            let error = text.parse::<EtcdUrl>().unwrap_err();
            assert!(matches!(error, EtcdUrlError::Plain(_)), "{error}");
        }
        for text in [
            "",
            "192.0.2.7:2379",
            "ftp://192.0.2.7",
            "https://",
            "https://a:0",
            "https://a:b",
            "https://a/b",
            "https://user@a",
            "https://2001:db8::7",
        ] {
            assert!(text.parse::<EtcdUrl>().is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_told_has_to_fit_together() {
        let place = |urls: &[&str]| EtcdPlace {
            urls: urls.iter().map(|url| url.parse().unwrap()).collect(),
            prefix: Keyspace::default(),
        };
        let files = || {
            Some(EtcdFiles {
                ca: "/a".into(),
                certificate: "/b".into(),
                key: "/c".into(),
            })
        };
        let (secure, plain) = ("https://192.0.2.7", "http://127.0.0.1");
        ExistingEtcd::new(place(&[secure, secure]), files()).unwrap();
        ExistingEtcd::new(place(&[plain]), None).unwrap();
        for (urls, files) in [
            (&[][..], None),
            (&[secure; 10], files()),
            (&[secure, plain], files()),
            (&[secure], None),
            (&[plain], files()),
        ] {
            assert!(ExistingEtcd::new(place(urls), files).is_err(), "{urls:?}");
        }
    }

    #[test]
    fn versions_are_compared_as_numbers() {
        for (version, expected) in [
            ("3.3.27", true),
            ("2.9.9", true),
            ("3.4.0", false),
            ("3.10.1", false),
            ("4.0.0", false),
            ("next", false),
        ] {
            assert_eq!(is_too_old(version), expected, "{version}");
        }
    }
}
