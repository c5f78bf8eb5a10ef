//! The facts about a guardian. No type here can hold a secret; a test checks each of them.

use std::fmt;

use hgs_pki::Time;
use serde::{Deserialize, Serialize};

use crate::{Observed, PathFacts, Problem, Reachability, Validity, text};

/// Everything that was found out about a guardian.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    /// When, by the clock of the machine that collected.
    #[serde(with = "text::display")]
    pub time: Time,
    /// The version of the program that collected.
    pub version: String,
    /// Its configuration; absent for the guardian of another machine.
    pub configuration: Option<Observed<Vec<Setting>>>,
    /// Whether it runs; absent as above.
    pub service: Option<Service>,
    /// What can be seen only with access to the state.
    #[serde(alias = "inside")]
    pub local: Option<LocalFacts>,
    /// How the service decides about a host that it has made up; absent where it was not asked.
    #[serde(default)]
    pub synthetic_roll: Option<SyntheticRoll>,
    /// What anyone can see, for each URL that was tried.
    #[serde(alias = "outside")]
    pub public: Vec<PublicFacts>,
}

/// Something that is wrong with a setting.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Setting {
    /// Which.
    pub name: String,
    /// Whether the service does not work because of it.
    pub prevents: bool,
    /// What was found.
    pub problem: Problem,
}

/// What the socket of the administrators answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Service {
    /// It answered.
    Answers,
    /// Nothing listens.
    NotRunning(Problem),
    /// It does not answer this user.
    Forbidden(Problem),
    /// Something listens, and gives no answer.
    NoAnswer(Problem),
}

/// What can be seen with access to the state: by the service, or by this program while the service does not run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LocalFacts {
    /// When, by its clock.
    #[serde(with = "text::display")]
    pub time: Time,
    /// The number of the user that it runs as.
    pub user: u32,
    /// The process of the service; absent while it does not run.
    pub process: Option<Process>,
    /// The folder of the state.
    pub state_folder: PathFacts,
    /// The space on its disk.
    pub disk: Option<Disk>,
    /// The file of the master key.
    pub master_key_file: PathFacts,
    /// Whether the master key can be read.
    pub master_key: Observed<()>,
    /// The certificate of the HTTPS listener; absent where there is no such listener.
    pub https: Option<ListenerCertificate>,
    /// The certificate of `[listen.api]`; absent where there is no such listener.
    #[serde(default)]
    pub api: Option<ListenerCertificate>,
    /// The base URLs by which hosts reach it.
    pub urls: Vec<String>,
    /// Whether the state has come as far as its high-water mark; absent where that was not found out.
    #[serde(default)]
    pub high_water_mark: Option<Observed<()>>,
    /// Faults of its settings, as its own process sees them; absent while it does not run.
    #[serde(default)]
    pub settings: Option<Vec<Setting>>,
    /// Whether each listener could be opened; none while it runs, and has them open.
    #[serde(default)]
    pub listeners: Vec<Listener>,
    /// The state; absent where another process holds it.
    pub state: Option<Observed<State>>,
    /// The cluster that it is a node of; absent where it is one node.
    #[serde(default)]
    pub cluster: Option<Cluster>,
}

/// The cluster that a guardian is a node of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cluster {
    /// What this node is called.
    pub node: String,
    /// Whether this node has what it needs: the folder of its etcd, or files for one that runs already.
    pub usable: Observed<()>,
    /// The certificates of this node and of the cluster's authorities.
    pub certificates: Vec<ClusterCertificate>,
    /// How it stands; absent while this node does not run.
    #[serde(default)]
    pub standing: Option<ClusterStanding>,
    /// How this node has found that etcd was put back, if it did not serve since.
    #[serde(default)]
    pub put_back: Option<String>,
}

/// A certificate that nodes know each other by.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterCertificate {
    /// Its file.
    pub name: String,
    /// Its period.
    pub validity: Validity,
}

/// How a cluster stands, as one of its nodes sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterStanding {
    /// Whether commits are ordered.
    pub quorum: bool,
    /// The node that leads, if one does.
    pub leader: Option<String>,
    /// How many more nodes can be lost; absent without a quorum.
    pub survives: Option<usize>,
    /// Two nodes whose audit logs are not the same.
    pub divergence: Option<String>,
    /// Why the nodes are known as they were last.
    pub trouble: Option<String>,
    /// How it was found that etcd was put back.
    #[serde(default)]
    pub put_back: Option<String>,
    /// The nodes, and the members of an etcd that runs already.
    pub nodes: Vec<ClusterNode>,
    /// The nodes that a newer level of the format waits for.
    pub lagging: Vec<LaggingNode>,
}

/// A node that can't read what others can.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LaggingNode {
    /// What it is called.
    pub name: String,
    /// The version that it runs, and the one that it should.
    pub problem: Problem,
}

/// A node of a cluster, or a member of an etcd that runs already.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterNode {
    /// What it is called.
    pub name: String,
    /// Whether it answers, or has reported lately.
    pub there: bool,
    /// Whether it votes in an etcd of the nodes' own.
    pub votes: bool,
    /// Why it does not answer.
    pub error: Option<String>,
    /// The version of its program.
    pub version: Option<String>,
    /// Commits that it has yet to take in.
    pub lag: Option<u64>,
    /// Seconds between its clock and that of this node.
    pub clock_apart: Option<u64>,
    /// Thumbprints of certificates whose keys it can't use, and another node can.
    pub missing_keys: Option<Vec<String>>,
    /// The version of its etcd.
    pub etcd_version: Option<String>,
    /// Octets that its etcd uses.
    pub etcd_octets: Option<u64>,
    /// Octets that it may use.
    pub etcd_quota: Option<u64>,
    /// What its etcd says is wrong.
    pub alarms: Vec<String>,
}

/// A listener of a service that does not run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listener {
    /// Its section of the configuration and its address.
    pub name: String,
    /// Whether this user could open it.
    pub free: Observed<()>,
}

/// A process that holds keys.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// Octets of the largest core dump; absent if there is no limit.
    pub core_limit: Option<u64>,
    /// Whether its memory can be dumped, and read by others of the same user.
    pub dumpable: bool,
    /// The files that it has open.
    #[serde(default)]
    pub open_files: Option<u64>,
    /// How many it may have open.
    #[serde(default)]
    pub file_limit: Option<u64>,
}

/// The space on a disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Disk {
    /// Octets that can still be written.
    pub free: u64,
    /// Octets in all.
    pub total: u64,
    /// Files that can still be made, where the file system has a limit.
    #[serde(default)]
    pub free_files: Option<u64>,
}

/// Octets below which commits are about to fail.
const LEAST_SPACE: u64 = 8 * MIB;
/// Octets below which people are told.
const LITTLE_SPACE: u64 = 256 * MIB;
/// Files below which the database can't make its own: its log, an index of that, a journal.
const LEAST_FILES: u64 = 8;
const MIB: u64 = 1024 * 1024;

impl Disk {
    /// Whether the state has room to grow.
    #[must_use]
    pub fn space(&self) -> DiskSpace {
        let lacks_files = self.free_files.is_some_and(|files| files < LEAST_FILES);
        match self.free {
            _ if lacks_files => DiskSpace::Full,
            0..LEAST_SPACE => DiskSpace::Full,
            LEAST_SPACE..LITTLE_SPACE => DiskSpace::Little,
            _ => DiskSpace::Enough,
        }
    }
}

impl fmt::Display for Disk {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(files) = self.free_files.filter(|files| *files < LEAST_FILES) {
            write!(formatter, "{files} files can still be made; ")?;
        }
        let (free, total) = (self.free / MIB, self.total / MIB);
        write!(formatter, "{free} of {total} MiB are free")
    }
}

/// The space for the state on its disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DiskSpace {
    /// There is enough.
    Enough,
    /// There is little: people are told.
    Little,
    /// Commits are about to fail.
    Full,
}

/// The certificate that a TLS listener shows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListenerCertificate {
    /// Its file.
    pub certificate: String,
    /// Whether certificate and key can be used together.
    pub usable: Observed<()>,
    /// The file of the key.
    pub key: Option<PathFacts>,
    /// For how long it is valid.
    pub validity: Option<Validity>,
    /// Whether it is the certificate of a certification authority.
    #[serde(default)]
    pub authority: bool,
    /// Whether it is for the name in each URL of the listener.
    pub names: Vec<NameMatch>,
}

/// Whether a certificate is for the name in a URL.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NameMatch {
    /// The URL.
    pub url: String,
    /// Whether it is.
    pub matches: Observed<()>,
}

/// The state of a guardian.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// What it is called.
    pub name: String,
    /// How many transactions have changed it.
    pub generation: u64,
    /// What the quick check of the database says.
    pub sound: Observed<()>,
    /// Whether a commit succeeds.
    pub writable: Observed<()>,
    /// When the newest audit record was written.
    #[serde(with = "text::optional")]
    pub last_record: Option<Time>,
    /// How many audit records are in the database.
    #[serde(default)]
    pub audit_records: Option<u64>,
    /// Its certificates.
    pub certificates: Vec<Certificate>,
    /// Signers of health certificates.
    pub signers: Vec<Signer>,
    /// Whether a new signer of our own is due.
    pub new_signer_due: bool,
    /// The thumbprint of the signer that signs now.
    pub active_signer: Option<String>,
    /// Whether a health certificate by that signer is believed here.
    pub health_certificate: Option<Observed<()>>,
    /// Warnings about hosts: host keys that two machines use, and hosts that use up identity keys.
    #[serde(default)]
    pub host_warnings: Vec<Problem>,
    /// What hosts with TPMs are judged by; absent where hosts attest by host keys.
    #[serde(default)]
    pub tpm_mode: Option<TpmMode>,
}

/// What a guardian in TPM mode judges hosts by.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TpmMode {
    /// How many authorities vouch for TPMs.
    pub ek_roots: u64,
    /// Groups whose hosts can't be healthy, and why.
    pub group_problems: Vec<Problem>,
    /// Hosts with a TPM that are not revoked.
    pub hosts: u64,
    /// Those of them whose last attempt to attest was refused, and why.
    pub refused_hosts: Vec<Problem>,
}

/// A certificate of a guardian.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Certificate {
    /// SHA-256 of its DER.
    pub thumbprint: String,
    /// `signing`, `encryption` or `communications`.
    pub kind: String,
    /// Its subject.
    pub subject: String,
    /// A label for people.
    pub label: Option<String>,
    /// `fabric`, or `tenant:` and the tenant's label.
    pub lineage: String,
    /// Whether it is used.
    pub enabled: bool,
    /// Whether it is the one of its kind that the metadata names.
    pub primary: bool,
    /// Where its private key lives.
    pub key: String,
    /// Bits of its key.
    pub key_bits: usize,
    /// The key usage that its kind should have, and that it lacks.
    #[serde(default)]
    pub lacking_key_usage: Option<String>,
    /// For how long it is valid.
    pub validity: Validity,
    /// When it was added.
    #[serde(with = "text::display")]
    pub added: Time,
    /// Its private key at work; absent where it is not used.
    pub work: Option<KeyTest>,
}

/// A signer of health certificates.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signer {
    /// SHA-256 of its DER.
    pub thumbprint: String,
    /// Whether it is one of our own.
    pub own: bool,
    /// For how long it is valid.
    pub validity: Validity,
    /// Its private key at work; absent for those of other clusters, and for those that sign no more.
    pub work: Option<KeyTest>,
}

/// The result of a trial of a private key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyTest {
    /// Whether this node has a place for it.
    pub held: Observed<()>,
    /// Whether it is the key of the certificate.
    pub belongs: Option<bool>,
    /// Whether it decrypts a fresh encryption; absent where it need not.
    pub decrypts: Option<Observed<()>>,
    /// Whether it makes a signature that verifies; absent where it need not.
    pub signs: Option<Observed<()>>,
    /// The ways to it, where it is in a token: two if there is a spare.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tokens: Vec<Token>,
}

/// The way to a key in a token, stage by stage. What comes after the first failure is absent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Token {
    /// The part of the key's URI that names the token.
    pub name: String,
    /// Whether a module is configured that may have it.
    pub configured: Observed<()>,
    /// The module, and its own description of itself.
    pub module: Option<Observed<String>>,
    /// The label and serial number of the token.
    pub token: Option<Observed<String>>,
    /// The file of the PIN; absent if it comes from elsewhere.
    pub pin_file: Option<PathFacts>,
    /// Where the PIN came from.
    pub pin: Option<Observed<String>>,
    /// Whether the token took it.
    pub login: Option<Observed<()>>,
    /// Its sessions.
    pub sessions: Option<Observed<Sessions>>,
    /// The attributes of the key.
    pub key: Option<Observed<Attributes>>,
    /// Whether it has the mechanisms that the key needs.
    pub mechanisms: Option<Observed<String>>,
}

/// The sessions of a token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sessions {
    /// Those of this process.
    pub open: usize,
    /// How many the token allows, if it says so.
    pub maximum: Option<u64>,
    /// How many all programs have open, if it says so.
    pub in_use: Option<u64>,
}

/// The attributes of a private key in a token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attributes {
    /// Whether its public half is the certificate's.
    pub belongs: bool,
    /// `CKA_SIGN`.
    pub signs: bool,
    /// `CKA_DECRYPT`.
    pub decrypts: bool,
    /// `CKA_SENSITIVE`.
    pub sensitive: bool,
    /// `CKA_EXTRACTABLE`.
    pub extractable: bool,
}

/// What anyone can see at one address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublicFacts {
    /// How far one gets. Its URL is the beginning of those of both services.
    pub reach: Reachability,
    /// How hosts attest, by name.
    pub attestation_mode: Option<Observed<String>>,
    /// The thumbprints of the signers that it publishes.
    pub signing_certificates: Option<Observed<Vec<String>>>,
    /// What its metadata says.
    pub metadata: Option<Observed<Metadata>>,
    /// The code by which a request for keys without a health certificate was refused.
    #[serde(default)]
    pub refusal: Option<Observed<String>>,
}

/// How a service decides about the requests of a host that it has made up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SyntheticRoll {
    /// Whether the keys were released, and the answer opened.
    pub released: Observed<()>,
    /// The code by which the same request with a tampered protector was refused.
    pub tampered: Observed<String>,
}

/// The certificates in a metadata document whose signatures hold, by their thumbprints.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Metadata {
    /// The guardian's signing certificate.
    pub signing: String,
    /// The guardian's encryption certificate.
    pub encryption: String,
    /// The certificate that signed the document.
    pub signer: String,
}
