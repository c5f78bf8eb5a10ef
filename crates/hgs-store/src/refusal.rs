//! Why a transaction may not happen.

use hgs_attest::policy::{NextBootError, PolicySettingError};
use hgs_attest::signer::NoRoomForSigner;
use hgs_attest::{CredentialId, IdentityRefusal};
use hgs_pki::{Thumbprint, Time};
use hgs_protector::metadata::MAX_OTHER_CERTIFICATES;

use crate::level::Level;
use crate::model::{
    DEFAULT_GROUP, Digest, HostName, MAX_DOCUMENT_OCTETS, SettingsError, ShortName,
};
use crate::policies::PolicyError;
use hgs_kps::{CertificateKind, Lineage};
use hgs_pki::health::HostId;

/// Serial numbers on a signer's deny list.
pub const MAX_DENIED: usize = 10_000;

/// Octets of the reason an administrator may give.
pub const MAX_REASON_LENGTH: usize = 1024;

/// Groups of hosts.
pub const MAX_HOST_GROUPS: usize = 1000;

/// Documents that measurements are compared with.
pub const MAX_POLICY_DOCUMENTS: usize = 1000;

/// Authorities that vouch for TPMs. All makers together have some hundreds.
pub const MAX_ENDORSEMENT_ROOTS: usize = 4096;

/// Why a transaction may not happen. The fault is with the caller.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// A setting is out of range.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// A certificate is known already.
    #[error("certificate {0} is known already")]
    CertificateKnown(Thumbprint),
    /// There is no such certificate.
    #[error("there is no certificate {0}")]
    NoSuchCertificate(Thumbprint),
    /// The lineage has a head of this kind.
    #[error("lineage {lineage} has a {kind} certificate as head already: {head}")]
    HeadKnown {
        /// Whose succession.
        lineage: Lineage,
        /// Which kind.
        kind: CertificateKind,
        /// The head that is there.
        head: Thumbprint,
    },
    /// A primary certificate can't be disabled.
    #[error("certificate {0} is primary and can't be disabled")]
    Primary(Thumbprint),
    /// A disabled, retired or compromised certificate can't be a head.
    #[error("a disabled, retired or compromised certificate can't be the head of a lineage")]
    UnusableHead,
    /// A tenant's certificate can't be primary.
    #[error(
        "certificate {thumbprint} belongs to {lineage} and is never primary: whatever is wrapped \
         to the primary pair can be read by the fabric"
    )]
    TenantNeverPrimary {
        /// Which certificate.
        thumbprint: Thumbprint,
        /// Whose it is.
        lineage: Lineage,
    },
    /// The head of a lineage can be neither retired, nor compromised, nor removed.
    #[error("certificate {thumbprint} is the head of lineage {lineage}")]
    IsHead {
        /// Which certificate.
        thumbprint: Thumbprint,
        /// Whose succession it heads.
        lineage: Lineage,
    },
    /// A lineage without heads can't take over from a compromised certificate.
    #[error("lineage {lineage} has no {missing} certificate as head that could take over")]
    NoSuccessor {
        /// Whose succession.
        lineage: Lineage,
        /// The kind of head that is missing.
        missing: CertificateKind,
    },
    /// The metadata lists all enabled signing certificates of the fabric, or owners would miss one.
    #[error(
        "the metadata has no room for another signing certificate: it lists at most {MAX_OTHER_CERTIFICATES} beside the \
         primary one, and fewer if they are long"
    )]
    MetadataFull,
    /// The head takes over from a compromised certificate.
    #[error("the head of lineage {0} takes over from a compromised certificate")]
    SuccessorNeeded(Lineage),
    /// The key is another lineage's: what is opened for one would be opened for the other.
    #[error("the key of certificate {thumbprint} belongs to lineage {lineage}")]
    KeyOfOtherLineage {
        /// The certificate that was to be added.
        thumbprint: Thumbprint,
        /// Whose key it is.
        lineage: Lineage,
    },
    /// The key counts as known to others, whatever certificate is over it.
    #[error("the key of certificate {0} is compromised")]
    KeyCompromised(Thumbprint),
    /// The metadata document is the fabric's.
    #[error("a communications certificate belongs to the fabric, not to {0}")]
    CommunicationsOfTenant(Lineage),
    /// The time of the compromise lies in the future.
    #[error("a certificate can't be compromised since {0}, which is to come")]
    CompromisedLater(Time),
    /// The certificate is compromised for longer.
    #[error("certificate {thumbprint} is compromised since {since}, and can't be so for less long")]
    CompromisedAlready {
        /// Which certificate.
        thumbprint: Thumbprint,
        /// Since when.
        since: Time,
    },
    /// The certificate was retired before.
    #[error("certificate {0} is retired already")]
    RetiredAlready(Thumbprint),
    /// The record of a compromised certificate is what keeps its key out of protectors.
    #[error(
        "certificate {0} is compromised; without its record, rolls would wrap keys to it again"
    )]
    NeededToShutOut(Thumbprint),
    /// There may be protectors that no other certificate opens.
    #[error("certificate {thumbprint} was the last to open {protectors} protectors")]
    NeededByProtectors {
        /// Which certificate.
        thumbprint: Thumbprint,
        /// How many protectors.
        protectors: u64,
    },
    /// The record says that its key is sealed here, and no key came with it.
    #[error("the private key of certificate {0} is missing")]
    KeyMissing(Thumbprint),
    /// The key is not the certificate's.
    #[error("the private key does not belong to certificate {0}")]
    KeyMismatch(Thumbprint),
    /// A key came with a record that says that its key lives elsewhere.
    #[error("the key of certificate {0} lives elsewhere, and a private key was given")]
    KeyElsewhere(Thumbprint),
    /// There is no such signer.
    #[error("there is no attestation signer {0}")]
    NoSuchSigner(Thumbprint),
    /// A signer is known already.
    #[error("attestation signer {0} is known already")]
    SignerKnown(Thumbprint),
    /// Clients that read one record of TLS would miss a signer.
    #[error(transparent)]
    NoRoomForSigner(#[from] NoRoomForSigner),
    /// Our own signers follow the settings of the service.
    #[error(
        "attestation signer {0} is our own; the settings of the service limit its certificates"
    )]
    OwnSigner(Thumbprint),
    /// Another cluster decides when its signer signs no more.
    #[error("attestation signer {0} is another cluster's")]
    ForeignSigner(Thumbprint),
    /// The signer was retired before.
    #[error("attestation signer {0} is retired already")]
    SignerRetiredAlready(Thumbprint),
    /// Too many certificates of a signer are refused one by one.
    #[error("a signer's deny list has at most {MAX_DENIED} serial numbers")]
    TooManyDenied,
    /// There is no such host.
    #[error("there is no host {0}")]
    NoSuchHost(HostId),
    /// Another host has this id.
    #[error("host id {0} is taken")]
    HostIdKnown(HostId),
    /// Another host has this name.
    #[error("a host named {0} is registered already")]
    HostNameKnown(HostName),
    /// Another host has this host key: one key is one host (attacks.md A2).
    #[error("the host key is registered already, for host {0}")]
    HostKeyKnown(HostName),
    /// Another host has this TPM: one TPM is one host (attacks.md A2).
    #[error("the TPM is registered already, for host {0}")]
    EndorsementKeyKnown(HostName),
    /// The host is barred.
    #[error("host {0} was revoked")]
    HostRevoked(HostName),
    /// The host key or the TPM belonged to a host that was removed, and was not readmitted.
    #[error(
        "the {} belonged to host {name}, which was removed at {removed}",
        kind_of(credential)
    )]
    HostRemoved {
        /// What the host was called.
        name: HostName,
        /// When it was removed.
        removed: Time,
        /// Its host key or its TPM.
        credential: CredentialId,
    },
    /// No host with this host key or TPM was removed.
    #[error("no host with the host key or the endorsement key {0} was removed")]
    NoSuchRemovedHost(Digest),
    /// The host was readmitted before.
    #[error("host {0} is readmitted already")]
    ReadmittedAlready(HostName),
    /// There is no such group.
    #[error("there is no host group {0}")]
    NoSuchHostGroup(ShortName),
    /// The group is there already; the default group always is.
    #[error("host group {0} is there already")]
    HostGroupKnown(ShortName),
    /// The default group is always there.
    #[error(
        "host group {DEFAULT_GROUP} can't be removed: hosts that are in no other one are in it"
    )]
    DefaultGroup,
    /// The group has hosts.
    #[error("host group {group} has {hosts} hosts")]
    HostGroupInUse {
        /// Which group.
        group: ShortName,
        /// How many hosts.
        hosts: usize,
    },
    /// No more groups are kept.
    #[error("there are {MAX_HOST_GROUPS} host groups already, and no more are kept")]
    TooManyHostGroups,
    /// There is no such document.
    #[error("there is no baseline, code integrity policy or dump key {0}")]
    NoSuchDocument(ShortName),
    /// Another document, or a policy, has this name.
    #[error("{kind} {name} is there already")]
    DocumentKnown {
        /// What has the name.
        kind: &'static str,
        /// The name.
        name: ShortName,
    },
    /// The document is another than the one that was to be changed.
    #[error("{0} was changed meanwhile; nothing was done")]
    DocumentChanged(ShortName),
    /// What the host measures is something else than what the change was made from.
    #[error("the measurements of host {0} were changed meanwhile; nothing was done")]
    MeasurementsChanged(HostName),
    /// Hosts can't say what they will boot next.
    #[error("claims of what hosts boot next are refused here")]
    NextBootClaimsRefused,
    /// What a host says that it will boot next is wrong.
    #[error("host {host}: {error}")]
    NextBoot {
        /// Which host.
        host: HostName,
        /// What is wrong.
        error: Box<NextBootError>,
    },
    /// What a group would be judged by is wrong, or nothing could match it any more.
    #[error("host group {group}: {error}")]
    Policies {
        /// Which group.
        group: ShortName,
        /// What is wrong.
        error: Box<PolicyError>,
    },
    /// The policy can't be set so.
    #[error(transparent)]
    PolicySetting(#[from] PolicySettingError),
    /// The document is too long.
    #[error("a document has at most {MAX_DOCUMENT_OCTETS} octets, not {0}")]
    DocumentTooLong(usize),
    /// No more documents are kept.
    #[error("there are {MAX_POLICY_DOCUMENTS} documents already, and no more are kept")]
    TooManyDocuments,
    /// The authority is known already.
    #[error("EK root {0} is known already")]
    EndorsementRootKnown(Thumbprint),
    /// There is no such authority.
    #[error("there is no EK root {0}")]
    NoSuchEndorsementRoot(Thumbprint),
    /// There is no room for another one.
    #[error("there are {MAX_ENDORSEMENT_ROOTS} EK roots already, and no more are kept")]
    TooManyEndorsementRoots,
    /// The host is denied.
    #[error("the host with the policy digest {0} is denied")]
    HostDenied(Digest),
    /// The host is not denied.
    #[error("no host with the policy digest {0} is denied")]
    NoSuchDenial(Digest),
    /// The host is registered here, where it can be revoked.
    #[error("the policy digest is that of host {0}, which is registered here")]
    DeniedHostRegistered(HostName),
    /// The host has returned nonces, and has to.
    #[error("host {0} has returned nonces before, and this request did not")]
    NonceRequired(HostName),
    /// The identity key may not be used now.
    #[error("host {host}: {refusal}")]
    Identity {
        /// Which host.
        host: HostName,
        /// Why not.
        refusal: IdentityRefusal,
    },
    /// The text is too long to keep.
    #[error("a reason has at most {MAX_REASON_LENGTH} octets")]
    ReasonTooLong,
    /// It can't be read by all nodes of the cluster yet.
    #[error(
        "this needs format level {needed}, and the state is at level {level}: it waits until all nodes have a version that reads it"
    )]
    LevelNeeded {
        /// The level that it needs.
        needed: Level,
        /// The level of the state.
        level: Level,
    },
    /// The level can't be raised to this one.
    #[error("the state is at format level {level}, and is not raised to {to}")]
    LevelNotRaised {
        /// The level of the state.
        level: Level,
        /// What it was to be.
        to: Level,
    },
    /// The key could not be sealed.
    #[error("the private key can't be sealed: no randomness")]
    NotSealed,
}

fn kind_of(credential: &CredentialId) -> &'static str {
    match credential {
        CredentialId::HostKey(_) => "host key",
        CredentialId::EndorsementKey(_) => "TPM",
    }
}
