//! The life of certificates and signers, transaction by transaction.

use std::sync::OnceLock;

use hgs_custody::PrivateKey as _;
use hgs_pki::{Seconds, Thumbprint, Time, Validity, profile};

use super::*;
use crate::fixture::*;
use crate::{Action, CertificateRecord, Outcome, SettingsError, SignerChange};
use hgs_kps::CertificateKind;
use hgs_kps::Lineage;
use hgs_pki::SerialNumber;

/// A store whose fabric has a head of each kind, `spare` certificates of each kind beside them, and
/// a tenant with a pair of its own.
struct Site {
    store: Store,
    _folder: tempfile::TempDir,
}

/// Keys 0 to 5; making RSA keys takes a while.
fn key(number: usize) -> &'static Arc<SoftwareKey> {
    static KEYS: OnceLock<Vec<Arc<SoftwareKey>>> = OnceLock::new();
    let make = || Arc::new(SoftwareKey::generate(2048).unwrap());
    &KEYS.get_or_init(|| (0..6).map(|_| make()).collect())[number]
}

fn fixture() -> &'static Fixture {
    static FIXTURE: OnceLock<Fixture> = OnceLock::new();
    FIXTURE.get_or_init(Fixture::new)
}

/// A certificate over key `number`; each call of one name and key gives the same.
fn record(kind: CertificateKind, lineage: &str, number: usize) -> CertificateRecord {
    named(kind, lineage, number, "test")
}

fn named(kind: CertificateKind, lineage: &str, number: usize, name: &str) -> CertificateRecord {
    let validity = Validity {
        not_before: time(0),
        not_after: time(1000),
    };
    let template = match kind {
        CertificateKind::Signing => profile::guardian_signing(name, validity),
        _ => profile::guardian_encryption(name, validity),
    };
    CertificateRecord {
        kind,
        certificate: certificate(key(number), template),
        lineage: lineage.parse().unwrap(),
        head: false,
        label: None,
        ..fixture().encryption_record()
    }
}

impl Site {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = fixture().create(&folder.path().join("state"));
        Self {
            store,
            _folder: folder,
        }
    }

    /// With a signing head, so that the fabric has a whole pair.
    fn with_pair() -> Self {
        let site = Self::new();
        site.add_head(record(CertificateKind::Signing, "fabric", 0));
        site
    }

    fn act(&self, transaction: Transaction) -> Result<(), Refusal> {
        match self.store.transact(vec![transaction], act(10)) {
            Ok(_) => Ok(()),
            Err(Failure::Refused(refusal)) => Err(refusal),
            Err(Failure::Store(error)) => panic!("{error}"),
        }
    }

    fn try_add(&self, record: CertificateRecord, number: usize) -> Result<Thumbprint, Refusal> {
        let thumbprint = record.thumbprint();
        let key = Some(Arc::clone(key(number)));
        self.act(Transaction::AddCertificate { record, key })?;
        Ok(thumbprint)
    }

    fn add(&self, record: CertificateRecord) -> Thumbprint {
        let public = record.certificate.public_key();
        let number = (0..6).find(|number| key(*number).public() == public);
        self.try_add(record, number.unwrap()).unwrap()
    }

    fn add_head(&self, record: CertificateRecord) -> Thumbprint {
        self.add(CertificateRecord {
            head: true,
            ..record
        })
    }

    fn certificate(&self, thumbprint: Thumbprint) -> CertificateRecord {
        self.store.state().certificate(&thumbprint).unwrap().clone()
    }

    fn enable(&self, thumbprint: Thumbprint, enabled: bool) -> Result<(), Refusal> {
        self.act(Transaction::SetCertificateEnabled {
            thumbprint,
            enabled,
        })
    }

    fn make_head(&self, thumbprint: Thumbprint) -> Result<(), Refusal> {
        self.act(Transaction::SetHead {
            thumbprint,
            primary: false,
        })
    }

    fn compromise(&self, thumbprint: Thumbprint, since: Time) -> Result<(), Refusal> {
        self.act(Transaction::SetCompromised { thumbprint, since })
    }

    fn retire(&self, thumbprint: Thumbprint) -> Result<(), Refusal> {
        self.act(Transaction::RetireCertificate { thumbprint })
    }

    fn remove(&self, thumbprint: Thumbprint, even_if_needed: bool) -> Result<(), Refusal> {
        self.act(Transaction::RemoveCertificate {
            thumbprint,
            even_if_needed,
        })
    }

    /// Protector `ingress` is opened with a pair.
    fn open_with(&self, encryption: Thumbprint, signing: Thumbprint, ingress: u64) {
        let release = ReleaseRecord {
            guardian: encryption,
            guardian_signing: signing,
            ..fixture().release(20, ingress, ingress + 1)
        };
        crate::fixture::record(&self.store, release).unwrap();
    }
}

#[test]
fn a_new_head_takes_over_in_one_step() {
    let site = Site::with_pair();
    let first = fixture().encryption.thumbprint();
    let second = site.add(record(CertificateKind::Encryption, "fabric", 1));
    let become_primary = Transaction::SetHead {
        thumbprint: second,
        primary: true,
    };
    site.act(become_primary).unwrap();
    assert!(site.certificate(second).is_primary());
    let former = site.certificate(first);
    assert!(!former.head && former.enabled);
    let signing = site.store.state();
    let mut signing = signing.certificates();
    assert!(signing.any(|one| one.kind == CertificateKind::Signing && one.is_primary()));

    let audited = &site.store.audit(&AuditFilter::default(), 1).unwrap()[0];
    assert_eq!(audited.entry.action, Action::SetHead);
    assert_eq!(audited.entry.lineage, Some(Lineage::Fabric));
    assert_eq!(audited.entry.before.as_ref().unwrap()["head"], false);
    assert_eq!(audited.entry.after.as_ref().unwrap()["head"], true);
    // With the settings, which every change by an administrator writes.
    assert_eq!(audited.changes.len(), 3, "the former head is in the record");

    // Back again, and to itself.
    site.make_head(first).unwrap();
    site.make_head(first).unwrap();
    assert!(site.certificate(first).is_primary() && !site.certificate(second).head);
}

#[test]
fn what_can_not_be_head_is_none() {
    let site = Site::with_pair();
    let first = fixture().encryption.thumbprint();
    let second = site.add(record(CertificateKind::Encryption, "fabric", 1));
    site.enable(second, false).unwrap();
    assert_eq!(site.make_head(second), Err(Refusal::UnusableHead));
    site.enable(second, true).unwrap();
    site.retire(second).unwrap();
    assert_eq!(site.retire(second), Err(Refusal::RetiredAlready(second)));
    assert_eq!(site.make_head(second), Err(Refusal::UnusableHead));
    assert!(site.certificate(second).enabled, "it goes on opening");
    let third = site.add(record(CertificateKind::Encryption, "fabric", 2));
    site.compromise(third, time(9)).unwrap();
    assert_eq!(site.make_head(third), Err(Refusal::UnusableHead));

    let head = Refusal::IsHead {
        thumbprint: first,
        lineage: Lineage::Fabric,
    };
    assert_eq!(site.retire(first), Err(head.clone()));
    assert_eq!(site.compromise(first, time(9)), Err(head.clone()));
    assert_eq!(site.remove(first, true), Err(head));
    assert_eq!(site.enable(first, false), Err(Refusal::Primary(first)));
    assert!(site.certificate(first).is_primary());
}

#[test]
fn a_tenant_has_heads_but_never_the_primary_ones() {
    let site = Site::with_pair();
    let tenant = site.add_head(record(CertificateKind::Encryption, "tenant:Contoso", 1));
    assert!(!site.certificate(tenant).is_primary());
    let next = site.add(record(CertificateKind::Encryption, "tenant:Contoso", 2));
    let refused = site.act(Transaction::SetHead {
        thumbprint: next,
        primary: true,
    });
    let reason = Refusal::TenantNeverPrimary {
        thumbprint: next,
        lineage: "tenant:Contoso".parse().unwrap(),
    };
    assert_eq!(refused, Err(reason));
    let audited = &site.store.audit(&AuditFilter::default(), 1).unwrap()[0];
    assert_eq!(audited.entry.outcome, Outcome::Refused);
    assert_eq!(
        audited.entry.lineage,
        Some("tenant:Contoso".parse().unwrap())
    );
    site.make_head(next).unwrap();
    assert!(site.certificate(next).head && !site.certificate(tenant).head);
    let fabric = site.certificate(fixture().encryption.thumbprint());
    assert!(fabric.is_primary(), "a lineage's head is nobody else's");

    // A tenant leaves: its head is disabled, which ends its headship, and removed.
    site.enable(next, false).unwrap();
    assert!(!site.certificate(next).head);
    site.enable(next, true).unwrap();
    assert!(!site.certificate(next).head);
    site.remove(next, false).unwrap();
}

#[test]
fn a_key_belongs_to_one_lineage() {
    let site = Site::with_pair();
    site.add(record(CertificateKind::Encryption, "tenant:Contoso", 1));
    for lineage in ["fabric", "tenant:Fabrikam"] {
        let same_key = named(CertificateKind::Encryption, lineage, 1, lineage);
        let refusal = Refusal::KeyOfOtherLineage {
            thumbprint: same_key.thumbprint(),
            lineage: "tenant:Contoso".parse().unwrap(),
        };
        assert_eq!(site.try_add(same_key, 1), Err(refusal));
    }
    let communications = CertificateRecord {
        kind: CertificateKind::Communications,
        ..record(CertificateKind::Signing, "tenant:Contoso", 2)
    };
    let refusal = Refusal::CommunicationsOfTenant("tenant:Contoso".parse().unwrap());
    assert_eq!(site.try_add(communications, 2), Err(refusal));
}

#[test]
fn a_compromised_key_is_so_under_every_certificate_and_for_good() {
    let site = Site::with_pair();
    let old = site.add(record(CertificateKind::Encryption, "fabric", 1));
    let renewed = named(CertificateKind::Encryption, "fabric", 1, "renewed");
    let renewed = site.add(renewed);
    assert_eq!(
        site.compromise(old, time(11)),
        Err(Refusal::CompromisedLater(time(11)))
    );
    site.compromise(old, time(5)).unwrap();
    for thumbprint in [old, renewed] {
        assert_eq!(site.certificate(thumbprint).compromised, Some(time(5)));
    }
    let later = Refusal::CompromisedAlready {
        thumbprint: old,
        since: time(5),
    };
    assert_eq!(site.compromise(old, time(6)), Err(later));
    site.compromise(old, time(4)).unwrap();
    assert_eq!(site.certificate(renewed).compromised, Some(time(4)));

    let again = named(CertificateKind::Encryption, "fabric", 1, "again");
    let refusal = Refusal::KeyCompromised(again.thumbprint());
    assert_eq!(site.try_add(again, 1), Err(refusal));
    assert_eq!(site.remove(old, false), Err(Refusal::NeededToShutOut(old)));
    site.remove(old, true).unwrap();
}

#[test]
fn whoever_takes_over_from_a_compromised_certificate_stays() {
    let site = Site::new();
    // The fabric has an encryption head only.
    let second = site.add(record(CertificateKind::Encryption, "fabric", 1));
    let refusal = Refusal::NoSuccessor {
        lineage: Lineage::Fabric,
        missing: CertificateKind::Signing,
    };
    assert_eq!(site.compromise(second, time(1)), Err(refusal));

    let lineage: Lineage = "tenant:Contoso".parse().unwrap();
    let old = site.add(record(CertificateKind::Encryption, "tenant:Contoso", 2));
    site.add_head(record(CertificateKind::Signing, "tenant:Contoso", 3));
    let head = site.add_head(record(CertificateKind::Encryption, "tenant:Contoso", 4));
    site.compromise(old, time(1)).unwrap();
    assert_eq!(
        site.enable(head, false),
        Err(Refusal::SuccessorNeeded(lineage))
    );
    site.remove(old, true).unwrap();
    site.enable(head, false).unwrap();
}

#[test]
fn a_certificate_is_kept_while_protectors_need_it() {
    let site = Site::with_pair();
    let signing = record(CertificateKind::Signing, "fabric", 0).thumbprint();
    let old_encryption = site.add(record(CertificateKind::Encryption, "fabric", 1));
    let old_signing = site.add(record(CertificateKind::Signing, "fabric", 2));
    let unused = site.add(record(CertificateKind::Signing, "fabric", 3));
    site.open_with(old_encryption, old_signing, 10);
    site.open_with(old_encryption, old_signing, 20);
    site.open_with(old_encryption, signing, 30);
    site.remove(unused, false).unwrap();

    let needed = |thumbprint, protectors| Refusal::NeededByProtectors {
        thumbprint,
        protectors,
    };
    let refused = site.remove(old_encryption, false);
    assert_eq!(refused, Err(needed(old_encryption, 3)));
    assert_eq!(site.remove(old_signing, false), Err(needed(old_signing, 2)));
    let usage = site.store.usage().unwrap();
    let pair = |signing, protectors| PairUsage {
        encryption: old_encryption,
        signing: Some(signing),
        protectors,
        first: time(20),
        last: time(20),
    };
    let mut expected = [pair(old_signing, 2), pair(signing, 1)];
    expected.sort_by_key(|pair| pair.signing);
    assert_eq!(usage, expected);

    // What came of the first comes back to the new pair: that of which it came does not count.
    let head = fixture().encryption.thumbprint();
    site.open_with(head, signing, 11);
    let refused = site.remove(old_signing, false);
    assert_eq!(refused, Err(needed(old_signing, 1)));
    site.open_with(head, signing, 21);
    site.remove(old_signing, false).unwrap();

    let public_key = Digest::from_bytes(*key(1).public().digest());
    assert!(site.store.private_key(&public_key).unwrap().is_some());
    site.remove(old_encryption, true).unwrap();
    assert!(site.store.private_key(&public_key).unwrap().is_none());
}

/// A release that was decided before its pair was disabled is not recorded.
#[test]
fn k4_neither_half_of_the_pair_may_be_disabled() {
    let site = Site::with_pair();
    let encryption = fixture().encryption.thumbprint();
    let signing = site.add(record(CertificateKind::Signing, "fabric", 1));
    site.enable(signing, false).unwrap();
    let release = ReleaseRecord {
        guardian_signing: signing,
        ..fixture().release(20, 1, 2)
    };
    assert_eq!(release.guardian, encryption);
    let refused = crate::fixture::record(&site.store, release);
    assert_eq!(
        refused,
        Err(Failure::Refused(ReleaseRefusal::Refused(
            hgs_protector::OpenError::NoWrapping.into()
        )))
    );
}

/// A release that was decided before a pair was marked may wrap the new key to it.
#[test]
fn k4_what_was_decided_before_a_marking_is_decided_again() {
    let site = Site::with_pair();
    let signing = record(CertificateKind::Signing, "fabric", 0).thumbprint();
    let old = site.add(record(CertificateKind::Encryption, "fabric", 1));
    let before = site.store.state().generation();
    let release = |decided_from, ingress| {
        let release = ReleaseRecord {
            guardian_signing: signing,
            decided_from,
            ..fixture().release(20, ingress, ingress + 1)
        };
        crate::fixture::record(&site.store, release)
    };
    release(before, 10).unwrap();
    site.compromise(old, time(5)).unwrap();
    assert_eq!(
        release(before, 20),
        Err(Failure::Refused(ReleaseRefusal::CompromisedMeanwhile))
    );
    release(before + 1, 20).unwrap();
}

#[test]
fn a_rekey_window_is_bounded_and_closes() {
    let site = Site::new();
    let open = |until| site.act(Transaction::SetRekeyWindow { until });
    let too_late = time(10).checked_add(Seconds::new(30 * 86_400 + 1));
    let refused = open(too_late);
    assert_eq!(refused, Err(Refusal::Settings(SettingsError::RekeyWindow)));
    open(Some(time(100))).unwrap();
    let state = site.store.state();
    assert!(state.settings().is_rekey_window_open(time(99)));
    assert!(!state.settings().is_rekey_window_open(time(100)));
    open(None).unwrap();
    assert!(!site.store.state().settings().is_rekey_window_open(time(10)));
}

#[test]
fn what_is_believed_of_a_signer_changes_one_by_one() {
    let site = Site::new();
    let thumbprint = fixture().signer.thumbprint();
    let set = |change| site.act(Transaction::SetAttestationSigner { thumbprint, change });
    let serial = SerialNumber::from_bytes(&[1, 2, 3]).unwrap();
    set(SignerChange::DenyBefore(Some(time(30)))).unwrap();
    set(SignerChange::Deny(serial.clone())).unwrap();
    set(SignerChange::Label(Some("ours".parse().unwrap()))).unwrap();
    let refused = set(SignerChange::MaximumValiditySeconds(Some(60)));
    assert_eq!(refused, Err(Refusal::OwnSigner(thumbprint)));
    let state = site.store.state();
    let signer = state.attestation_signer(&thumbprint).unwrap();
    assert_eq!(signer.deny_before, Some(time(30)));
    assert!(signer.deny_list.contains(&serial));
    assert_eq!(signer.label.as_ref().unwrap().as_str(), "ours");
    set(SignerChange::Allow(serial)).unwrap();
    set(SignerChange::DenyBefore(None)).unwrap();
    let state = site.store.state();
    let signer = state.attestation_signer(&thumbprint).unwrap();
    assert!(signer.deny_list.is_empty() && signer.deny_before.is_none());

    let foreign = crate::AttestationSigner {
        certificate: certificate(
            key(0),
            profile::attestation_signer(Validity {
                not_before: time(0),
                not_after: time(1000),
            }),
        ),
        key: None,
        ..fixture().signer_record()
    };
    let thumbprint = foreign.thumbprint();
    site.act(Transaction::AddAttestationSigner {
        signer: foreign,
        key: None,
    })
    .unwrap();
    let change = SignerChange::MaximumValiditySeconds(Some(60));
    site.act(Transaction::SetAttestationSigner { thumbprint, change })
        .unwrap();
    let state = site.store.state();
    let signer = state.attestation_signer(&thumbprint).unwrap();
    assert_eq!(signer.maximum_validity_seconds, Some(60));
}
