//! Joining: what a node and a cluster say to each other, and what the node does with it.
//!
//! ```text
//!  node                                          a node of the cluster
//!  POST join   request, proof of the secret ---> has the invitation redeemed
//!       <--- sealed under the secret: certificates, authorities, master key, nodes
//!  GET state   with the new certificate     ---> a copy of the state
//!  POST member with the new certificate     ---> has etcd add a member that only learns
//! ```
//!
//! Each step can be done again after a crash on either side. The node belongs to the cluster once `cluster.json` says so,
//! which is written last.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use hgs_crypto::random::System;
use hgs_crypto::rsa::PublicKey;
use hgs_crypto::{CryptoError, SecretBytes, base64, hex};
use hgs_custody::PrivateKey as _;
use hgs_custody::seal::MasterKey;
use hgs_files::{FileError, Readers, Staged};
use hgs_pki::{Certificate, Time};
use hgs_store::{Format as StateFormat, Level, Levels, UnreadableLevel, program_version};
use http_body_util::BodyExt as _;
use hyper::Method;
use hyper::header::CONTENT_LENGTH;
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep};
use zeroize::Zeroizing;

use crate::call::{self, CallError, Callee};
use crate::credentials::{
    Authorities, Authority, CredentialsError, NodeCertificates, Purpose, client_config, node_key,
};
use crate::existing::{EtcdFiles, EtcdPlace, ExistingEtcd, ExistingEtcdError};
use crate::folder::{ClusterFolder, Facts, FolderError, Format, check_cluster_id, check_nodes};
use crate::invitation::{Invitation, Invitations, NotInvited};
use crate::node::{Node, NodeAddress};

/// Where a node asks to join.
pub const JOIN: &str = "/cluster/join";
/// Where it fetches a copy of the state.
pub const STATE: &str = "/cluster/state";
/// Where it asks to become a member of etcd.
pub const MEMBER: &str = "/cluster/member";
/// Octets of the longest request to join.
pub const MAX_REQUEST: usize = 16 * 1024;
/// Octets of an answer: two authorities with their keys, two certificates, and the nodes.
const ROOM_FOR_ANSWER: usize = 64 * 1024;
/// For so long a cluster that is not ready to take a member is asked again.
const MEMBER_TIME: Duration = Duration::from_secs(45);
/// How often.
const MEMBER_PAUSE: Duration = Duration::from_millis(500);

/// What is posted to join.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Posted {
    /// Which invitation.
    invitation: String,
    /// A [`JoinRequest`] as text, over which the proof is made.
    request: String,
    /// Of the invitation's secret, in hexadecimal digits.
    proof: String,
}

/// Who wants to join.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JoinRequest {
    /// What it is called, and where it will be reached.
    pub node: Node,
    /// Its public key: SubjectPublicKeyInfo in Base64.
    public_key: String,
    /// Of its program.
    pub version: ProgramVersion,
}

/// The version of a program and the levels of the format that it reads, as text: `0.2.0+levels.1-2`. What follows `+` is build
/// metadata to whoever knows only versions; one without it is from before there were levels.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub struct ProgramVersion {
    /// The version.
    pub version: String,
    /// The levels.
    pub levels: Levels,
}

impl ProgramVersion {
    /// Of this program.
    #[must_use]
    pub fn this() -> Self {
        Self {
            version: program_version().to_owned(),
            levels: Levels::of_this_program(),
        }
    }
}

impl From<String> for ProgramVersion {
    fn from(text: String) -> Self {
        let known = text.split_once("+levels.").and_then(|(version, levels)| {
            let (oldest, newest) = levels.split_once('-')?;
            let level = |text: &str| text.parse().ok().map(Level::from_number);
            Some(Self {
                version: version.to_owned(),
                levels: Levels {
                    oldest: level(oldest)?,
                    newest: level(newest)?,
                },
            })
        });
        known.unwrap_or_else(|| Self {
            version: text,
            levels: Levels::default(),
        })
    }
}

impl From<ProgramVersion> for String {
    fn from(program: ProgramVersion) -> Self {
        let ProgramVersion { version, levels } = program;
        format!("{version}+levels.{}-{}", levels.oldest, levels.newest)
    }
}

/// What a node that joins is given. Everything in Base64, so that reading it copies no secret.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Handed<'a> {
    cluster: &'a str,
    master_key: &'a str,
    clients_authority: &'a str,
    clients_key: &'a str,
    peers_authority: &'a str,
    peers_key: &'a str,
    client: &'a str,
    peer: &'a str,
    /// Where nodes use an etcd that runs already.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    etcd: Option<EtcdPlace>,
}

/// The nodes of a cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Nodes {
    /// All of them.
    pub nodes: Vec<Node>,
}

/// A request to join that can't be granted.
#[derive(Debug, thiserror::Error)]
pub enum NotAdmitted {
    /// It is no request.
    #[error("this is not a request to join a cluster: {0}")]
    Malformed(String),
    /// Its program can't read what the cluster writes.
    #[error("the machine that wants to join can't read the state of the cluster: {0}. On that machine, {remedy}", remedy = .0.remedy())]
    Level(UnreadableLevel),
    /// Its invitation does not hold.
    #[error(transparent)]
    NotInvited(#[from] NotInvited),
    /// It can't be answered.
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
}

impl From<CryptoError> for NotAdmitted {
    fn from(error: CryptoError) -> Self {
        Self::Credentials(error.into())
    }
}

/// A request whose proof is good. It is the only one that its invitation holds for.
#[derive(Debug)]
pub struct Admission {
    /// Who wants to join.
    pub request: JoinRequest,
    key: PublicKey,
    text: String,
    invitation: Invitation,
}

/// Reads a request to join a cluster at this level of the format, and redeems its invitation. A machine that can't read the level is
/// given nothing, and the invitation still holds.
///
/// # Errors
/// [`NotAdmitted`]. Work that costs something, such as looking at the key, is done only for who has the secret.
pub fn admit(
    octets: &[u8],
    invitations: &mut Invitations,
    format: &StateFormat,
    now: Time,
) -> Result<Admission, NotAdmitted> {
    let malformed = |reason: String| NotAdmitted::Malformed(reason);
    if octets.len() > MAX_REQUEST {
        return Err(malformed(format!("it has more than {MAX_REQUEST} octets")));
    }
    let posted: Posted =
        serde_json::from_slice(octets).map_err(|error| malformed(error.to_string()))?;
    let request: JoinRequest =
        serde_json::from_str(&posted.request).map_err(|error| malformed(error.to_string()))?;
    let proof = hex::decode(&posted.proof)
        .ok_or_else(|| malformed("its proof is not in hexadecimal digits".to_owned()))?;
    let text = posted.request;
    let ProgramVersion { version, levels } = &request.version;
    if !levels.contain(format.level) {
        return Err(NotAdmitted::Level(UnreadableLevel {
            format: format.clone(),
            program: version.clone(),
            levels: *levels,
        }));
    }
    let invitation = invitations.redeem(&posted.invitation, text.as_bytes(), &proof, now)?;
    let key = base64::decode(&request.public_key)
        .map_err(|_| malformed("its public key is not in Base64".to_owned()))?;
    let key = PublicKey::from_spki_der(&key)
        .map_err(|error| malformed(format!("its public key: {error}")))?;
    Ok(Admission {
        request,
        key,
        text,
        invitation,
    })
}

impl Admission {
    /// Certifies the node and hands over what it needs, encrypted to whoever has the secret of the invitation.
    ///
    /// # Errors
    /// When the node can't be certified.
    pub fn answer(
        &self,
        facts: &Facts,
        authorities: &Authorities,
        master_key: &MasterKey,
        now: Time,
    ) -> Result<Vec<u8>, NotAdmitted> {
        let issued = authorities.issue(&self.request.node, &self.key, now)?;
        let of = |certificate: &Certificate| base64::encode(certificate.der());
        let key = |authority: &Authority| -> Zeroizing<String> {
            let text = authority.to_handed_text();
            Zeroizing::new(String::from_utf8_lossy(text.expose()).into_owned())
        };
        let handed = Handed {
            cluster: &facts.cluster,
            master_key: &Zeroizing::new(base64::encode(master_key.octets().expose())),
            clients_authority: &of(authorities.clients.certificate()),
            clients_key: &key(&authorities.clients),
            peers_authority: &of(authorities.peers.certificate()),
            peers_key: &key(&authorities.peers),
            client: &of(&issued.client),
            peer: &of(&issued.peer),
            etcd: facts.etcd.as_ref().map(|etcd| etcd.place.clone()),
        };
        // With its room from the beginning: what grows leaves copies.
        let mut octets = Vec::with_capacity(ROOM_FOR_ANSWER);
        serde_json::to_writer(&mut octets, &handed)
            .map_err(|error| NotAdmitted::Malformed(error.to_string()))?;
        let answer = SecretBytes::new(octets);
        let sealed = self
            .invitation
            .seal(self.text.as_bytes(), &answer, &mut System::new())?;
        Ok(sealed)
    }
}

/// A node did not join.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// The folder of the cluster.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// Certificates and keys.
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    /// This machine belongs to a cluster already.
    #[error("this machine is node {0} of a cluster already")]
    IsNode(crate::node::NodeName),
    /// No node of the invitation did what was asked.
    #[error("no node of the cluster could be joined: {}", reasons(.0))]
    Calls(Vec<CallError>),
    /// The nodes start an etcd of their own.
    #[error(
        "the nodes of this cluster start an etcd of their own, which makes its certificates itself"
    )]
    OwnEtcd,
    /// The nodes use an etcd that runs already, and this machine can't.
    #[error(transparent)]
    ExistingEtcd(#[from] ExistingEtcdError),
    /// The answer is not of the cluster that has invited.
    #[error("the answer is not one of the cluster that has invited: {0}")]
    Answer(String),
}

fn reasons(errors: &[CallError]) -> String {
    let reasons: Vec<_> = errors.iter().map(ToString::to_string).collect();
    reasons.join("; ")
}

impl From<FileError> for JoinError {
    fn from(error: FileError) -> Self {
        Self::Folder(error.into())
    }
}

/// What a node has been given.
#[derive(Debug)]
pub struct Joining {
    folder: ClusterFolder,
    node: Node,
    cluster: String,
    /// That of the whole cluster.
    pub master_key: MasterKey,
    by: NodeAddress,
    etcd: Option<ExistingEtcd>,
}

/// Asks to join, with the invitation, and keeps what the cluster says about this node. The master key is the caller's to
/// keep. `files` are those by which this machine and an etcd that runs already know each other.
///
/// # Errors
/// [`JoinError`]; it can be tried again as long as the invitation holds.
pub async fn ask(
    folder: ClusterFolder,
    node: Node,
    invitation: &Invitation,
    files: Option<EtcdFiles>,
) -> Result<Joining, JoinError> {
    if let Some(facts) = folder.facts()? {
        return Err(JoinError::IsNode(facts.node.name));
    }
    folder.make()?;
    let key = node_key(&folder)?;
    let request = JoinRequest {
        node,
        public_key: base64::encode(key.public().spki_der()),
        version: ProgramVersion::this(),
    };
    let text =
        serde_json::to_string(&request).map_err(|error| JoinError::Answer(error.to_string()))?;
    let (by, sealed) = post(invitation, &text).await?;
    let answer = invitation
        .open(text.as_bytes(), &sealed)
        .map_err(|_| JoinError::Answer("it is not encrypted to this invitation".to_owned()))?;
    let handed: Handed<'_> = serde_json::from_slice(answer.expose())
        .map_err(|error| JoinError::Answer(error.to_string()))?;
    check_cluster_id(handed.cluster).map_err(JoinError::Answer)?;
    let authorities = handed.authorities()?;
    if authorities.fingerprint() != invitation.fingerprint() {
        return Err(JoinError::Answer("its authority is another one".to_owned()));
    }
    let certificates = NodeCertificates {
        client: certificate(handed.client)?,
        peer: certificate(handed.peer)?,
    };
    certificates.check(&authorities, &request.node.name, key.public())?;
    let etcd = use_existing(&handed, files).await?;
    let master_key = base64::decode(handed.master_key)
        .map_err(|_| JoinError::Answer("its master key is none".to_owned()))?;
    let master_key = MasterKey::from_octets(SecretBytes::new(master_key))
        .map_err(|problem| JoinError::Answer(problem.to_string()))?;
    authorities.keep(&folder, &master_key)?;
    certificates.keep(&folder, authorities.clients.certificate())?;
    Ok(Joining {
        cluster: handed.cluster.to_owned(),
        folder,
        node: request.node,
        master_key,
        by,
        etcd,
    })
}

/// Looks whether this machine can use the etcd that the other nodes use, where that runs already.
async fn use_existing(
    handed: &Handed<'_>,
    files: Option<EtcdFiles>,
) -> Result<Option<ExistingEtcd>, JoinError> {
    let Some(place) = handed.etcd.clone() else {
        return match files {
            Some(_) => Err(JoinError::OwnEtcd),
            None => Ok(None),
        };
    };
    let etcd = ExistingEtcd::new(place, files)?;
    let there = etcd.look().await?;
    let is_same = there.is_some_and(|there| hex::encode(&there) == handed.cluster);
    match is_same {
        true => Ok(Some(etcd)),
        false => Err(ExistingEtcdError::Absent(etcd.place.prefix).into()),
    }
}

/// Posts the request to one node after the other, until one answers.
async fn post(invitation: &Invitation, request: &str) -> Result<(NodeAddress, Bytes), JoinError> {
    let tls = call::pinned(invitation.fingerprint())
        .map_err(|error| CredentialsError::Tls(error.to_string()))?;
    let posted = Posted {
        invitation: invitation.id(),
        request: request.to_owned(),
        proof: hex::encode(&invitation.proof(request.as_bytes())),
    };
    let body = serde_json::to_vec(&posted).map_err(|error| JoinError::Answer(error.to_string()))?;
    let body = Bytes::from(body);
    let mut errors = Vec::new();
    for address in invitation.addresses() {
        let tls = tls.clone();
        match (Callee { address, tls })
            .ask(Method::POST, JOIN, body.clone())
            .await
        {
            Ok(answer) => return Ok((address.clone(), answer)),
            Err(error) => errors.push(error),
        }
    }
    Err(JoinError::Calls(errors))
}

fn certificate(text: &str) -> Result<Certificate, JoinError> {
    let der =
        base64::decode(text).map_err(|_| JoinError::Answer("it holds no Base64".to_owned()))?;
    Certificate::from_der(&der).map_err(|error| JoinError::Answer(error.to_string()))
}

impl Handed<'_> {
    fn authorities(&self) -> Result<Authorities, JoinError> {
        let of = |purpose, der, key| -> Result<Authority, JoinError> {
            Ok(Authority::of_handed(purpose, certificate(der)?, key)?)
        };
        Ok(Authorities {
            clients: of(Purpose::Clients, self.clients_authority, self.clients_key)?,
            peers: of(Purpose::Peers, self.peers_authority, self.peers_key)?,
        })
    }
}

impl Joining {
    /// Whether each node starts a member of etcd.
    #[must_use]
    pub fn has_own_etcd(&self) -> bool {
        self.etcd.is_none()
    }

    /// Fetches a copy of the state from the node that has answered, into a file beside `target`. `progress` is told how many
    /// octets of how many have come.
    ///
    /// # Errors
    /// When it does not come whole.
    pub async fn fetch_state(
        &self,
        target: &Path,
        progress: &mut (dyn FnMut(u64, u64) + Send),
    ) -> Result<Staged, JoinError> {
        fetch_state(&self.folder, &self.by, target, progress).await
    }

    /// Has the cluster add this node to its members of etcd, and keeps that it belongs to it.
    ///
    /// # Errors
    /// When the cluster is not ready for it within 45 s, or has too many nodes.
    pub async fn become_member(self) -> Result<Facts, JoinError> {
        let callee = Callee {
            address: &self.by,
            tls: client_config(&self.folder, b"http/1.1")?,
        };
        let node =
            serde_json::to_vec(&self.node).map_err(|error| JoinError::Answer(error.to_string()))?;
        let node = Bytes::from(node);
        let deadline = Instant::now() + MEMBER_TIME;
        let answer = loop {
            match callee.ask(Method::POST, MEMBER, node.clone()).await {
                Ok(answer) => break answer,
                Err(CallError::Later { .. } | CallError::Broken { .. })
                    if Instant::now() < deadline =>
                {
                    sleep(MEMBER_PAUSE).await;
                }
                Err(error) => return Err(JoinError::Calls(vec![error])),
            }
        };
        let Nodes { nodes } = serde_json::from_slice(&answer)
            .map_err(|error| JoinError::Answer(error.to_string()))?;
        check_nodes(&nodes).map_err(JoinError::Answer)?;
        if !nodes.contains(&self.node) {
            return Err(JoinError::Answer(
                "this node is not among its nodes".to_owned(),
            ));
        }
        let facts = Facts {
            format: Format,
            cluster: self.cluster,
            node: self.node,
            founder: false,
            nodes,
            etcd: self.etcd,
        };
        self.folder.keep_facts(&facts)?;
        Ok(facts)
    }
}

/// Fetches a copy of the state of another node into a file beside `target`.
///
/// # Errors
/// When it does not come whole.
pub async fn fetch_state(
    folder: &ClusterFolder,
    from: &NodeAddress,
    target: &Path,
    progress: &mut (dyn FnMut(u64, u64) + Send),
) -> Result<Staged, JoinError> {
    let callee = Callee {
        address: from,
        tls: client_config(folder, b"http/1.1")?,
    };
    let calls = |error| JoinError::Calls(vec![error]);
    let answer = callee
        .begin(Method::GET, STATE, Bytes::new())
        .await
        .map_err(calls)?;
    let broken = |reason: String| {
        JoinError::Calls(vec![CallError::Broken {
            address: from.clone(),
            reason,
        }])
    };
    let length = answer
        .headers()
        .get("x-state-octets")
        .or_else(|| answer.headers().get(CONTENT_LENGTH));
    let length: u64 = length
        .and_then(|length| length.to_str().ok()?.parse().ok())
        .ok_or_else(|| broken("it does not say how long the state is".to_owned()))?;
    let staged = Staged::filled(
        target,
        Readers::Owner,
        |_: &mut File| Ok::<_, io::Error>(()),
    );
    let (staged, ()) = staged.map_err(|(place, error)| FileError::at(&place, error))?;
    let at = |error: io::Error| FileError::at(staged.staged(), error);
    let mut file = File::options()
        .append(true)
        .open(staged.staged())
        .map_err(at)?;
    let mut body = answer.into_body();
    let mut come = 0;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| broken(error.to_string()))?;
        if let Ok(data) = frame.into_data() {
            come += data.len() as u64;
            if come > length {
                return Err(broken("the state is longer than it said".to_owned()));
            }
            file.write_all(&data).map_err(at)?;
            progress(come, length);
        }
    }
    if come < length {
        return Err(broken(format!(
            "the state ended after {come} of {length} octets"
        )));
    }
    file.sync_all().map_err(at)?;
    Ok(staged)
}

/// Reads anything as each thing that nodes and strangers send, and never panics: the body of a fuzz target.
#[doc(hidden)]
pub fn fuzz_join(data: &[u8]) {
    let now = Time::from_unix(0);
    let format = StateFormat::default();
    assert!(admit(data, &mut Invitations::default(), &format, now).is_err());
    let _ = serde_json::from_slice::<Handed<'_>>(data).map(|handed| handed.authorities().is_ok());
    if let Ok(Nodes { nodes }) = serde_json::from_slice(data)
        && check_nodes(&nodes).is_ok()
    {
        let text = serde_json::to_string(&nodes).unwrap_or_default();
        assert!(serde_json::from_str::<Vec<Node>>(&text).is_ok_and(|read| read == nodes));
    }
    if let Ok(text) = std::str::from_utf8(data)
        && let Ok(invitation) = text.parse::<Invitation>()
    {
        assert!(invitation.to_text().parse::<Invitation>().is_ok());
    }
}

#[cfg(test)]
mod tests {
    use hgs_pki::Thumbprint;

    use super::*;

    const NOW: Time = Time::from_unix(1_800_000_000);

    #[test]
    fn nothing_that_is_sent_makes_it_panic() {
        let addresses = vec!["192.0.2.1".parse().unwrap()];
        let invitation = Invitation::new(Thumbprint::of(b""), addresses, &mut System::new());
        let node = r#"{"name":"n2","address":"192.0.2.2:2382"}"#;
        let request = r#"{"invitation":"00","request":"{}","proof":"00"}"#;
        let corpus = [
            invitation.unwrap().to_text().as_bytes().to_vec(),
            format!(r#"{{"nodes":[{node}]}}"#).into_bytes(),
            request.as_bytes().to_vec(),
        ];
        let tokens: [&[u8]; 4] = [b"\"", b":", b"[", b"hgs-join-1"];
        for data in hgs_testkit::Mutations::of(&corpus, &tokens).take(3000) {
            fuzz_join(&data);
        }
    }

    #[test]
    fn what_is_no_request_is_refused_before_its_invitation_is_used() {
        let mut open = Invitations::default();
        let invitation = Invitation::new(
            Thumbprint::of(b""),
            vec!["192.0.2.1".parse().unwrap()],
            &mut System::new(),
        )
        .unwrap();
        open.open(invitation.clone(), NOW);
        let key = hgs_custody::SoftwareKey::generate(2048).unwrap();
        let request_of = |node: &str, key: &str, version: &str| {
            let text = format!(
                r#"{{"node":{{"name":"{node}","address":"192.0.2.2:2382"}},"public_key":"{key}","version":"{version}"}}"#
            );
            let posted = Posted {
                invitation: invitation.id(),
                proof: hex::encode(&invitation.proof(text.as_bytes())),
                request: text,
            };
            serde_json::to_vec(&posted).unwrap()
        };
        // A program from before there were levels.
        let request = |node: &str, key: &str| request_of(node, key, "0.1.0");
        let first = StateFormat::default();
        let spki = base64::encode(key.public().spki_der());
        for bad in [
            b"{}".to_vec(),
            vec![b' '; MAX_REQUEST + 1],
            request("a/b", &spki),
        ] {
            let error = admit(&bad, &mut open, &first, NOW).unwrap_err();
            assert!(matches!(error, NotAdmitted::Malformed(_)), "{error}");
        }
        let second: StateFormat = serde_json::from_str(r#"{"level":2,"version":"0.2.0"}"#).unwrap();
        for (format, version) in [(&second, "0.1.0"), (&first, "0.3.0+levels.2-3")] {
            let error =
                admit(&request_of("n2", &spki, version), &mut open, format, NOW).unwrap_err();
            assert!(matches!(error, NotAdmitted::Level(_)), "{error}");
        }
        assert_eq!(String::from(ProgramVersion::this()), "0.1.0+levels.1-1");
        let request_of_next = request_of("n2", &spki, "0.2.0+levels.1-2");
        let program = ProgramVersion::from("0.2.0+levels.1-2".to_owned());
        assert!(program.levels.contain(second.level) && program.version == "0.2.0");
        let strange = ProgramVersion::from("0.2.0+levels.1".to_owned());
        assert_eq!(strange.levels, Levels::default());
        let admission = admit(&request_of_next, &mut open, &first, NOW).unwrap();
        assert_eq!(admission.request.node.name.as_str(), "n2");
        let error = admit(&request("n3", &spki), &mut open, &first, NOW).unwrap_err();
        assert!(matches!(error, NotAdmitted::NotInvited(_)), "{error}");
    }
}
