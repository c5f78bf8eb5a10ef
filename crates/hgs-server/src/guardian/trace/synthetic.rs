//! The synthetic roll: a host, an owner and a protector are made up, and their request is decided by the functions that
//! decide the requests of hosts.
//!
//! It goes through no listener. The synthetic host is registered in [`SyntheticHosts`] only, which no request from the
//! network is decided by, and its private key never leaves this process.

use std::fmt;
use std::sync::Arc;
use std::thread;

use hgs_crypto::hash::Sha256Digest;
use hgs_crypto::random::System;
use hgs_custody::{HeldKeys, PrivateKey as _, SoftwareKey, self_signed};
use hgs_kps::wire::{Algorithms, RollTransportKeyRequest};
use hgs_kps::{
    Authenticity, Caches, HostStanding, HostStandings, Lineage, PendingRoll, Recorded, Refusal,
    Release, ServiceVersion,
};
use hgs_pki::health::HostId;
use hgs_pki::{Certificate, Seconds, Time, Validity, profile};
use hgs_protector::suite::KeyEncryption;
use hgs_protector::{GuardianCertificates, TransportKey, VerifiedProtector, create};
use hgs_store::{Act, Action, AuditEntry, Outcome};
use hgs_trace::guardian::SyntheticRoll;
use hgs_trace::{Observed, Problem};
use tracing::info;

use super::super::certify::KeySize;
use super::super::key_work::SnapshotKeys;
use super::super::keys::{Snapshot, Snapshots};
use super::super::open_store::OpenStore;
use super::super::release::{Releases, digest, unavailable};
use super::super::signers::Signers;
use super::super::workers::Workers;
use super::issue::{SYNTHETIC_HOST, health_certificate};

/// How long the certificates of the synthetic owner are valid.
const VALIDITY: Seconds = Seconds::from_minutes(2);

/// The registry that the synthetic roll is decided by.
struct SyntheticHosts;

impl HostStandings for SyntheticHosts {
    fn standing(&self, host: &HostId) -> HostStanding {
        match *host == SYNTHETIC_HOST {
            true => HostStanding::Registered,
            false => HostStanding::Unknown,
        }
    }

    fn is_barred(&self, _: &Sha256Digest) -> bool {
        false
    }
}

/// The synthetic roll could not be prepared.
#[derive(Debug, thiserror::Error)]
#[error("the synthetic roll can't be prepared: {0}")]
struct SyntheticError(String);

/// Has synthetic rolls decided.
pub(crate) struct SyntheticRolls {
    pub(crate) store: Arc<OpenStore>,
    pub(crate) snapshots: Arc<Snapshots>,
    pub(crate) releases: Arc<Releases>,
    pub(crate) workers: Arc<Workers>,
}

impl SyntheticRolls {
    /// Has the keys of a synthetic host released to it, and a tampered protector refused. Each decision is recorded as a part
    /// of `act`. It blocks, for as long as the generation of keys takes.
    pub(crate) fn run(&self, act: &Act) -> SyntheticRoll {
        match self.prepare(act.time) {
            Ok((snapshot, requests)) => self.decide(&snapshot, requests, act),
            Err(error) => SyntheticRoll {
                released: Err(Problem::of(&error)),
                tampered: Err(Problem::of(&error)),
            },
        }
    }

    fn prepare(&self, now: Time) -> Result<(Snapshot, Requests), SyntheticError> {
        let snapshot = self.snapshots.current().map_err(SyntheticError::of)?;
        let participants = Participants::generate(now)?;
        let protector = participants.protector(&snapshot)?;
        let health = participants.health_certificate(&snapshot, now)?;
        let tampered = RollTransportKeyRequest {
            ingress_protector: tampered(protector.octets())?,
            health_certificate: health.der().to_vec(),
            algorithms: Algorithms::default(),
        };
        let mut keys = HeldKeys::default();
        keys.hold(&health, Arc::new(participants.identity));
        let requests = Requests {
            sound: PendingRoll::new(protector, health, Algorithms::default(), ServiceVersion::V2),
            tampered: tampered.to_xml(),
            keys,
        };
        Ok((snapshot, requests))
    }

    fn decide(&self, snapshot: &Snapshot, requests: Requests, act: &Act) -> SyntheticRoll {
        let now = act.time;
        let decide = |request: &[u8]| {
            let mut processor = self.workers.processor();
            let mut keys = SnapshotKeys {
                keys: &snapshot.holdings.keys,
                processor: &mut processor,
            };
            let decided = self.releases.with_key_protection(
                snapshot,
                &Signers::at(&snapshot.state, now).trusted(),
                Some(&SyntheticHosts),
                now,
                |key_protection| {
                    let random = &mut System::new();
                    key_protection.roll(ServiceVersion::V2, request, &mut keys, random)
                },
            );
            drop(processor);
            self.record(decided, act)
        };
        let tampered = match decide(&requests.tampered) {
            Ok(_) => Err(Problem::new("it was answered with keys")),
            Err(refusal) => Ok(refusal.code().name().to_owned()),
        };
        let released = match decide(&requests.sound.request()) {
            Ok(answer) => requests.open(&answer),
            Err(refusal) => Err(Problem::new(&refusal)),
        };
        SyntheticRoll { released, tampered }
    }

    /// Records a decision about the synthetic host as what it is: no release of anybody's keys. It has no place in the
    /// lineage of protectors, and is not counted with the releases to hosts.
    fn record(&self, decided: Result<Release, Refusal>, act: &Act) -> Result<Vec<u8>, Refusal> {
        let entry = |outcome| AuditEntry {
            host: Some(SYNTHETIC_HOST.to_string()),
            ..act.entry(Action::Trace, outcome)
        };
        let entry = match &decided {
            Ok(release) => {
                let facts = release.facts();
                AuditEntry {
                    protector: Some(digest(&facts.ingress)),
                    egress_protector: Some(digest(&facts.egress)),
                    owner: Some(facts.owner),
                    guardian: Some(facts.opened_with),
                    ..entry(Outcome::Done)
                }
            }
            Err(refusal) => AuditEntry {
                reason: Some(refusal.to_string()),
                protector: refusal.facts().ingress.as_ref().map(digest),
                ..entry(Outcome::Refused)
            },
        };
        let record = self
            .store
            .note_waiting(entry)
            .map_err(|failure| unavailable(&failure))?;
        let outcome = decided.as_ref().err().map(|refusal| refusal.code().name());
        info!(
            actor = act.actor,
            record,
            outcome = outcome.unwrap_or("released"),
            "a synthetic roll was decided"
        );
        let release = decided?;
        let recorded = Recorded::after_commit(release.facts().egress);
        release.into_response(&recorded)
    }
}

/// The requests of the synthetic host, and the key that the answer is for.
struct Requests {
    sound: PendingRoll,
    /// The same request with one octet of its protector changed.
    tampered: Vec<u8>,
    keys: HeldKeys,
}

impl Requests {
    /// Checks the answer as a host does, and opens the keys in it.
    fn open(&self, answer: &[u8]) -> Observed<()> {
        self.sound
            .receive(
                answer,
                Authenticity::DangerouslyUnsigned,
                &Caches::new(16),
                &mut &self.keys,
            )
            .map(drop)
            .map_err(|error| Problem::of(&error))
    }
}

impl SyntheticError {
    fn of(reason: impl fmt::Display) -> Self {
        Self(reason.to_string())
    }
}

/// The owner of a machine that does not exist, and the host that would run it.
struct Participants {
    owner: GuardianCertificates,
    owner_keys: HeldKeys,
    identity: SoftwareKey,
}

impl Participants {
    fn generate(now: Time) -> Result<Self, SyntheticError> {
        let validity = Validity {
            not_before: now,
            not_after: now.checked_add(VALIDITY).unwrap_or(Time::MAX),
        };
        let bits = KeySize::Rsa2048.bits();
        let generated = thread::scope(|scope| {
            let signing =
                scope.spawn(move || self_signed(profile::guardian_signing(NAME, validity), bits));
            let encryption = scope
                .spawn(move || self_signed(profile::guardian_encryption(NAME, validity), bits));
            let identity = SoftwareKey::generate(bits);
            (signing.join(), encryption.join(), identity)
        });
        let (Ok(signing), Ok(encryption), identity) = generated else {
            return Err(SyntheticError::of("a thread that made a key has failed"));
        };
        let (signing, signing_key) = signing.map_err(SyntheticError::of)?;
        let (encryption, encryption_key) = encryption.map_err(SyntheticError::of)?;
        let mut owner_keys = HeldKeys::default();
        owner_keys.hold(&signing, Arc::new(signing_key));
        owner_keys.hold(&encryption, Arc::new(encryption_key));
        let wanted = KeyEncryption::default();
        let owner = GuardianCertificates::certify(signing, encryption, wanted, &mut &owner_keys);
        Ok(Self {
            owner: owner.map_err(SyntheticError::of)?,
            owner_keys,
            identity: identity.map_err(SyntheticError::of)?,
        })
    }

    /// A protector of a new key, for the owner and the head of the fabric.
    fn protector(&self, snapshot: &Snapshot) -> Result<VerifiedProtector, SyntheticError> {
        let holdings = &snapshot.holdings;
        let head = holdings
            .ring
            .head(&Lineage::Fabric)
            .ok_or_else(|| SyntheticError::of("there is no primary pair"))?;
        let fabric = GuardianCertificates::certify(
            head.signing_certificate().clone(),
            head.encryption_certificate().clone(),
            head.key_encryption(),
            &mut holdings.keys.held(),
        )
        .map_err(SyntheticError::of)?;
        let key = TransportKey::random(&mut System::new()).map_err(SyntheticError::of)?;
        create(&self.owner, &[fabric], &key, &mut &self.owner_keys).map_err(SyntheticError::of)
    }

    fn health_certificate(
        &self,
        snapshot: &Snapshot,
        now: Time,
    ) -> Result<Certificate, SyntheticError> {
        let signers = Signers::at(&snapshot.state, now);
        let signer = signers.active();
        let signer = signer.ok_or_else(|| SyntheticError::of("no attestation signer can sign"))?;
        let keys = &snapshot.holdings.keys;
        health_certificate(keys, signer, self.identity.public(), now).map_err(SyntheticError::of)
    }
}

/// What the owner is called.
const NAME: &str = "trace";

/// The same document with one character of its last signature changed.
fn tampered(protector: &[u8]) -> Result<Vec<u8>, SyntheticError> {
    let mut octets = protector.to_vec();
    let is_base64 = |octet: &u8| octet.is_ascii_alphanumeric() || matches!(octet, b'+' | b'/');
    // The middle of the last long run of Base64, where every bit counts.
    let runs = octets
        .windows(LONG)
        .rposition(|run| run.iter().all(is_base64));
    let place = runs
        .and_then(|place| octets.get_mut(place))
        .ok_or_else(|| SyntheticError::of("the protector holds no signature"))?;
    *place = if *place == b'A' { b'B' } else { b'A' };
    Ok(octets)
}

/// Characters of Base64 that no name or identifier has in a row.
const LONG: usize = 40;

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use hgs_kps::Reason;
    use hgs_store::RequestId;

    use super::super::super::release::{ReleaseRequest, RequestFields};
    use super::*;
    use crate::running::tests::opened;

    /// The very request that the service releases keys for by itself is refused when it comes from the network.
    #[tokio::test(flavor = "multi_thread")]
    async fn the_synthetic_host_is_none_to_the_listeners() {
        let (_folder, guardian) = opened();
        let rolls = guardian.synthetic_rolls();
        let (_, requests) = rolls.prepare(guardian.releases.clock.now()).unwrap();
        let request = requests.sound.request();
        let network = IpAddr::from([192, 0, 2, 1]).into();
        let refusal = guardian
            .releases
            .roll(
                ReleaseRequest {
                    id: RequestId {
                        run: 0,
                        sequence: 1,
                    },
                    version: ServiceVersion::V2,
                    body: request.into(),
                    network,
                },
                Ok(RequestFields::default()),
            )
            .await;
        let reason = refusal.unwrap_err().reason().clone();
        assert_eq!(reason, Reason::HostNotRegistered);

        let act = Act::new(guardian.releases.clock.now(), "test");
        let roll = tokio::task::spawn_blocking(move || rolls.run(&act));
        assert_eq!(roll.await.unwrap().released, Ok(()));
    }

    #[test]
    fn what_keeps_hosts_from_their_keys_keeps_the_synthetic_host_from_them() {
        let (_folder, guardian) = opened();
        let rolls = guardian.synthetic_rolls();
        let later = guardian
            .releases
            .clock
            .now()
            .checked_add(Seconds::from_days(400));
        let refused = rolls.prepare(later.unwrap()).err().unwrap();
        assert!(
            refused.to_string().contains("no attestation signer"),
            "{refused}"
        );
    }
}
