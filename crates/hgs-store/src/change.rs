//! What a transaction writes: records put and removed.

use std::fmt;

use hgs_attest::CredentialId;
use hgs_pki::Thumbprint;

use crate::level::{self, Format, Level};
use crate::model::{
    AttestationSigner, CertificateRecord, DeniedHost, Digest, EndorsementRoot, Host,
    HostAttestation, HostGroup, HostIdentity, HostMeasurementsRecord, PolicyDocument, RemovedHost,
    SealedKey, Settings, ShortName, digest_of,
};
use crate::record::RecordKind;
use hgs_pki::health::HostId;

/// One record put or removed. Everything that happens to a [`State`](crate::State) is a sequence
/// of these.
#[expect(
    clippy::large_enum_variant,
    reason = "a commit has few of them, and they don't outlive it"
)]
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Change {
    Put(Record),
    Remove(RecordKey),
}

/// A record of any kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Record {
    Format(Format),
    Settings(Settings),
    Certificate(CertificateRecord),
    PrivateKey(SealedKey),
    Host(Host),
    HostAttestation(HostAttestation),
    HostIdentity(HostIdentity),
    AttestationSigner(AttestationSigner),
    RemovedHost(RemovedHost),
    DeniedHost(DeniedHost),
    EndorsementRoot(EndorsementRoot),
    HostGroup(HostGroup),
    PolicyDocument(PolicyDocument),
    HostMeasurements(HostMeasurementsRecord),
}

/// A record's kind and name; `Display` is the name within its kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum RecordKey {
    /// The first: whoever can't read what follows finds out by it.
    Format,
    Settings,
    Certificate(Thumbprint),
    PrivateKey(Digest),
    Host(HostId),
    HostAttestation(HostId),
    HostIdentity(HostId, Digest),
    AttestationSigner(Thumbprint),
    RemovedHost(CredentialId),
    DeniedHost(Digest),
    EndorsementRoot(Thumbprint),
    HostGroup(ShortName),
    PolicyDocument(ShortName),
    HostMeasurements(HostId),
}

impl Change {
    /// The level of the format that what is put needs.
    pub(crate) fn needed_level(changes: &[Self]) -> Level {
        let needed = changes.iter().map(|change| match change {
            Self::Put(record) => record.level(),
            Self::Remove(_) => Level::FIRST,
        });
        needed.max().unwrap_or_default()
    }

    pub(crate) fn key(&self) -> RecordKey {
        match self {
            Self::Put(record) => record.key(),
            Self::Remove(key) => *key,
        }
    }
}

impl Record {
    pub(crate) fn key(&self) -> RecordKey {
        match self {
            Self::Format(_) => RecordKey::Format,
            Self::Settings(_) => RecordKey::Settings,
            Self::Certificate(value) => RecordKey::Certificate(value.thumbprint()),
            Self::PrivateKey(value) => RecordKey::PrivateKey(value.public_key),
            Self::Host(value) => RecordKey::Host(value.id),
            Self::HostAttestation(value) => RecordKey::HostAttestation(value.host),
            Self::HostIdentity(value) => RecordKey::HostIdentity(value.host, value.public_key),
            Self::AttestationSigner(value) => RecordKey::AttestationSigner(value.thumbprint()),
            Self::RemovedHost(value) => RecordKey::RemovedHost(value.credential),
            Self::DeniedHost(value) => RecordKey::DeniedHost(value.policy),
            Self::EndorsementRoot(value) => RecordKey::EndorsementRoot(value.thumbprint()),
            Self::HostGroup(value) => RecordKey::HostGroup(value.name),
            Self::PolicyDocument(value) => RecordKey::PolicyDocument(value.name),
            Self::HostMeasurements(value) => RecordKey::HostMeasurements(value.host),
        }
    }

    /// The first level at which all programs can read it.
    pub(crate) fn level(&self) -> Level {
        match self {
            Self::HostGroup(HostGroup { name, .. })
            | Self::PolicyDocument(PolicyDocument { name, .. }) => name.level(),
            _ => Level::FIRST,
        }
    }

    /// The record's value as it is kept.
    pub(crate) fn to_text(&self) -> Result<String, serde_json::Error> {
        match self {
            Self::Format(value) => serde_json::to_string(value),
            Self::Settings(value) => serde_json::to_string(value),
            Self::Certificate(value) => serde_json::to_string(value),
            Self::PrivateKey(value) => serde_json::to_string(value),
            Self::Host(value) => value.to_record_text(),
            Self::HostAttestation(value) => serde_json::to_string(value),
            Self::HostIdentity(value) => serde_json::to_string(value),
            Self::AttestationSigner(value) => serde_json::to_string(value),
            Self::RemovedHost(value) => serde_json::to_string(value),
            Self::DeniedHost(value) => serde_json::to_string(value),
            Self::EndorsementRoot(value) => serde_json::to_string(value),
            Self::HostGroup(value) => serde_json::to_string(value),
            Self::PolicyDocument(value) => serde_json::to_string(value),
            Self::HostMeasurements(value) => serde_json::to_string(value),
        }
    }

    /// Reads a value back.
    pub(crate) fn from_text(kind: RecordKind, text: &str) -> Result<Self, serde_json::Error> {
        Ok(match kind {
            RecordKind::Format => Self::Format(serde_json::from_str(text)?),
            RecordKind::Settings => Self::Settings(serde_json::from_str(text)?),
            RecordKind::Certificate => Self::Certificate(serde_json::from_str(text)?),
            RecordKind::PrivateKey => Self::PrivateKey(serde_json::from_str(text)?),
            RecordKind::Host => Self::Host(Host::from_record_text(text)?),
            RecordKind::HostAttestation => Self::HostAttestation(serde_json::from_str(text)?),
            RecordKind::HostIdentity => Self::HostIdentity(serde_json::from_str(text)?),
            RecordKind::AttestationSigner => Self::AttestationSigner(serde_json::from_str(text)?),
            RecordKind::RemovedHost => Self::RemovedHost(serde_json::from_str(text)?),
            RecordKind::DeniedHost => Self::DeniedHost(serde_json::from_str(text)?),
            RecordKind::EndorsementRoot => Self::EndorsementRoot(serde_json::from_str(text)?),
            RecordKind::HostGroup => Self::HostGroup(serde_json::from_str(text)?),
            RecordKind::PolicyDocument => Self::PolicyDocument(serde_json::from_str(text)?),
            RecordKind::HostMeasurements => Self::HostMeasurements(serde_json::from_str(text)?),
        })
    }
}

impl RecordKey {
    pub(crate) fn kind(&self) -> RecordKind {
        match self {
            Self::Format => RecordKind::Format,
            Self::Settings => RecordKind::Settings,
            Self::Certificate(_) => RecordKind::Certificate,
            Self::PrivateKey(_) => RecordKind::PrivateKey,
            Self::Host(_) => RecordKind::Host,
            Self::HostAttestation(_) => RecordKind::HostAttestation,
            Self::HostIdentity(..) => RecordKind::HostIdentity,
            Self::AttestationSigner(_) => RecordKind::AttestationSigner,
            Self::RemovedHost(_) => RecordKind::RemovedHost,
            Self::DeniedHost(_) => RecordKind::DeniedHost,
            Self::EndorsementRoot(_) => RecordKind::EndorsementRoot,
            Self::HostGroup(_) => RecordKind::HostGroup,
            Self::PolicyDocument(_) => RecordKind::PolicyDocument,
            Self::HostMeasurements(_) => RecordKind::HostMeasurements,
        }
    }
}

impl fmt::Display for RecordKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Format => formatter.write_str(level::NAME),
            Self::Settings => formatter.write_str("service"),
            Self::Certificate(thumbprint)
            | Self::AttestationSigner(thumbprint)
            | Self::EndorsementRoot(thumbprint) => write!(formatter, "{thumbprint}"),
            Self::PrivateKey(digest) | Self::DeniedHost(digest) => write!(formatter, "{digest}"),
            Self::RemovedHost(credential) => write!(formatter, "{}", digest_of(credential)),
            Self::HostGroup(name) | Self::PolicyDocument(name) => write!(formatter, "{name}"),
            Self::Host(id) | Self::HostAttestation(id) | Self::HostMeasurements(id) => {
                write!(formatter, "{id}")
            }
            Self::HostIdentity(host, public_key) => write!(formatter, "{host}/{public_key}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::OnceLock;

    use hgs_custody::KeyReference;
    use hgs_pki::{Certificate, Time};
    use proptest::option;
    use proptest::prelude::*;

    use super::*;
    use crate::Outcome;
    use crate::evidence::LastAttempt;
    use crate::fixture::Fixture;
    use crate::model::KeyCaching;
    use crate::model::{Credential, DocumentKind, HostName, Platform, Revocation};
    use hgs_kps::CertificateKind;
    use hgs_kps::Label;
    use hgs_kps::Lineage;
    use hgs_pki::SerialNumber;
    use hgs_pki::health::{AttestationMode, HealthKind};

    fn certificate() -> Certificate {
        static CERTIFICATE: OnceLock<Certificate> = OnceLock::new();
        let certificate = CERTIFICATE.get_or_init(|| Fixture::new().encryption);
        certificate.clone()
    }

    fn label() -> impl Strategy<Value = Label> {
        r#"[\PC&&[^ ]]([\PC]{0,40}[\PC&&[^ ]])?"#
            .prop_filter_map("white space at an end", |text: String| text.parse().ok())
    }

    fn name() -> impl Strategy<Value = HostName> {
        "[A-Za-z0-9][A-Za-z0-9._-]{0,60}".prop_map(|text| text.parse().unwrap())
    }

    fn time() -> impl Strategy<Value = Time> {
        any::<i64>().prop_map(Time::from_unix)
    }

    fn key() -> impl Strategy<Value = KeyReference> {
        let token = "(token=[a-z]{1,9};)?object=[a-z0-9]{1,9}( pkcs11:token=[a-z]{1,9})?"
            .prop_map(|rest| format!("pkcs11:{rest}").parse().unwrap());
        prop_oneof![Just(KeyReference::Sealed), token]
    }

    fn digest() -> impl Strategy<Value = Digest> {
        any::<[u8; 32]>().prop_map(Digest::from_bytes)
    }

    fn id() -> impl Strategy<Value = HostId> {
        any::<[u8; 16]>().prop_map(HostId::from_bytes)
    }

    prop_compose! {
        fn settings()(
            name in label(),
            attestation_url: Option<String>,
            key_protection_url: Option<String>,
            key_caching in option::of((1..9u32, 1..9u32).prop_map(|(unwraps, hours)| KeyCaching { unwraps, hours })),
            health_certificate_seconds: u32,
            refuse_superseded_protectors: bool,
            rekey_window_until in option::of(time()),
            attestation_mode in prop_oneof![Just(AttestationMode::Tpm), Just(AttestationMode::HostKey)],
            accept_next_boot_claims: bool,
        ) -> Settings {
            Settings {
                attestation_mode,
                accept_next_boot_claims,
                name,
                attestation_url,
                key_protection_url,
                key_caching,
                health_certificate_seconds,
                refuse_superseded_protectors,
                rekey_window_until,
            }
        }
    }

    prop_compose! {
        fn certificate_record()(
            kind in prop_oneof![
                Just(CertificateKind::Signing),
                Just(CertificateKind::Encryption),
                Just(CertificateKind::Communications),
            ],
            key in key(),
            tenant in option::of(label()),
            (enabled, head) in any::<(bool, bool)>(),
            (compromised, retired) in (option::of(time()), option::of(time())),
            label in option::of(label()),
            added in time(),
        ) -> CertificateRecord {
            CertificateRecord {
                kind,
                certificate: certificate(),
                key,
                lineage: tenant.map_or(Lineage::Fabric, Lineage::Tenant),
                enabled,
                head,
                compromised,
                retired,
                label,
                sha1_only: false,
                added,
            }
        }
    }

    fn credential() -> impl Strategy<Value = Credential> {
        prop_oneof![
            any::<Vec<u8>>().prop_map(Credential::HostKey),
            any::<Vec<u8>>().prop_map(Credential::EndorsementKey),
        ]
    }

    prop_compose! {
        fn host()(
            id in id(),
            name in name(),
            credential in credential(),
            platform in option::of((any::<Option<Vec<u8>>>(), any::<Option<String>>(), any::<Option<String>>())),
            group in option::of("[a-z0-9][a-z0-9._-]{0,63}"),
            added in time(),
            revoked in option::of((time(), any::<String>(), any::<String>())),
        ) -> Host {
            let revoked = revoked.map(|(time, reason, by)| Revocation { time, reason, by });
            let (endorsement_certificate, system_uuid, system_serial_number) = platform.unwrap_or_default();
            Host {
                id,
                name,
                credential,
                platform: Platform { endorsement_certificate, system_uuid, system_serial_number },
                group: group.map(|group| group.parse().unwrap()),
                added,
                revoked,
                last_attested: None,
                returns_nonces: false,
                certificate_expires: None,
                last_attempt: None,
            }
        }
    }

    prop_compose! {
        fn host_attestation()(
            host in id(),
            last_attested in option::of(time()),
            returns_nonces: bool,
            certificate_expires in option::of(time()),
            last_attempt in option::of(last_attempt().prop_map(Box::new)),
        ) -> HostAttestation {
            HostAttestation {
                host,
                last_attested,
                returns_nonces,
                certificate_expires,
                last_attempt,
            }
        }
    }

    prop_compose! {
        fn last_attempt()(
            time in time(),
            refused: bool,
            reason: Option<String>,
            failed: Vec<String>,
            digests in prop::collection::vec(option::of(digest()), 3),
        ) -> LastAttempt {
            let outcome = if refused { Outcome::Refused } else { Outcome::Done };
            let [policies, difference, evidence] = digests[..] else { unreachable!("three") };
            LastAttempt { time, outcome, reason, failed, policies, difference, evidence }
        }
    }

    fn short_name() -> impl Strategy<Value = ShortName> {
        "[a-z0-9][a-z0-9._-]{0,63}".prop_map(|name| name.parse().unwrap())
    }

    prop_compose! {
        fn host_group()(
            name in short_name(),
            added in time(),
            policies in prop::collection::btree_map("[A-Za-z_]{1,20}", any::<bool>(), 0..4),
            documents in prop::collection::btree_map(short_name(), any::<bool>(), 0..4),
        ) -> HostGroup {
            HostGroup { name, added, policies, documents }
        }
    }

    prop_compose! {
        fn policy_document()(
            name in short_name(),
            kind in prop::sample::select(&DocumentKind::ALL[..]),
            text: String,
            added in time(),
            changed in option::of(time()),
        ) -> PolicyDocument {
            PolicyDocument { name, kind, text: text.into(), added, changed }
        }
    }

    fn host_measurements() -> impl Strategy<Value = HostMeasurementsRecord> {
        let parts = (id(), any::<String>(), time());
        parts.prop_map(|(host, text, changed)| HostMeasurementsRecord {
            host,
            text: text.into(),
            changed,
        })
    }

    prop_compose! {
        fn identity()(
            host in id(),
            kind in prop_oneof![Just(HealthKind::Signing), Just(HealthKind::Encryption)],
            public_key in digest(),
            first_seen in time(),
            superseded in option::of(time()),
            returned in option::of(time()),
        ) -> HostIdentity {
            HostIdentity { host, kind, public_key, first_seen, superseded, returned }
        }
    }

    prop_compose! {
        fn removed_host()(
            credential in credential(),
            (id, name) in (id(), name()),
            removed in time(),
            (by, returns_nonces) in any::<(String, bool)>(),
            readmitted in option::of(time()),
            revoked in option::of((time(), any::<String>(), any::<String>())),
        ) -> RemovedHost {
            let revoked = revoked.map(|(time, reason, by)| Revocation { time, reason, by });
            RemovedHost { credential: credential.id(), id, name, removed, by, revoked, returns_nonces, readmitted }
        }
    }

    prop_compose! {
        fn denied_host()(
            policy in digest(),
            time in time(),
            (reason, by) in any::<(String, String)>(),
        ) -> DeniedHost {
            DeniedHost { policy, denied: Revocation { time, reason, by } }
        }
    }

    prop_compose! {
        fn signer()(
            key in option::of(key()),
            retired: bool,
            deny_before in option::of(time()),
            maximum_validity_seconds: Option<u32>,
            label in option::of(label()),
            serials in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..=20), 0..4),
            added in time(),
        ) -> AttestationSigner {
            let serials = serials.iter().map(|serial| SerialNumber::from_bytes(serial).unwrap());
            AttestationSigner {
                certificate: certificate(),
                key,
                retired,
                deny_before,
                maximum_validity_seconds,
                label,
                deny_list: std::sync::Arc::new(serials.collect()),
                added,
            }
        }
    }

    fn record() -> impl Strategy<Value = Record> {
        let sealed = (digest(), any::<Vec<u8>>());
        let sealed = sealed.prop_map(|(public_key, sealed)| SealedKey { public_key, sealed });
        prop_oneof![
            settings().prop_map(Record::Settings),
            certificate_record().prop_map(Record::Certificate),
            sealed.prop_map(Record::PrivateKey),
            host_attestation().prop_map(Record::HostAttestation),
            host().prop_map(Record::Host),
            identity().prop_map(Record::HostIdentity),
            signer().prop_map(Record::AttestationSigner),
            removed_host().prop_map(Record::RemovedHost),
            denied_host().prop_map(Record::DeniedHost),
            host_group().prop_map(Record::HostGroup),
            policy_document().prop_map(Record::PolicyDocument),
            host_measurements().prop_map(Record::HostMeasurements),
        ]
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(record in record()) {
            let text = record.to_text().unwrap();
            let read = Record::from_text(record.key().kind(), &text).unwrap();
            prop_assert_eq!(read, record);
        }

        #[test]
        fn what_is_spoilt_never_panics(record in record(), place: prop::sample::Index, octet in 0x20u8..0x7f) {
            let mut text = record.to_text().unwrap().into_bytes();
            let place = place.index(text.len());
            text[place] = octet;
            if let Ok(text) = String::from_utf8(text) {
                let _ = Record::from_text(record.key().kind(), &text);
            }
        }
    }

    #[test]
    fn unknown_members_are_refused() {
        let text = serde_json::to_string(&Settings::new("hgs".parse().unwrap())).unwrap();
        let more = text.replacen('{', "{\"later\":1,", 1);
        assert!(Record::from_text(RecordKind::Settings, &text).is_ok());
        assert!(Record::from_text(RecordKind::Settings, &more).is_err());
    }
}
