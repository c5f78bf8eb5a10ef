//! A roll that is made up: host, owner and protector exist for it alone.
//!
//! The private key of the host's identity never leaves this process, so whoever carries the request to a listener, and
//! the answer back, holds nothing that opens anything, here or at a guardian that believes our signers.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use hgs_crypto::hex;
use hgs_crypto::random::{self, System};
use hgs_custody::{PrivateKey, SoftwareKey};
use hgs_kps::wire::{Algorithms, RollTransportKeyRequest};
use hgs_kps::{Lineage, PendingRoll, ServiceVersion, Step};
use hgs_pki::{Seconds, Thumbprint, Time, Validity, profile};
use hgs_protector::suite::KeyEncryption;
use hgs_protector::{
    DecryptionRefused, GuardianCertificates, TransportKey, VerifiedProtector, create,
};

use super::super::Guardian;
use super::super::initialise::KeySize;
use super::super::keys::Snapshot;
use super::super::release::digest;
use super::super::rotation::self_signed;
use super::super::signers::Signers;
use super::admission::Admission;
use super::issue::health_certificate;
use crate::admin::types;

/// How long the requests of a trial are accepted.
const LIFE: Seconds = Seconds::from_minutes(2);
/// Trials that are kept at once; an older one makes room.
const MOST: usize = 4;

/// The trials that are not over.
#[derive(Default)]
pub(in super::super) struct Trials(Mutex<Vec<Trial>>);

struct Trial {
    id: String,
    admission: Admission,
    requests: [Vec<u8>; 2],
    pending: PendingRoll,
    identity: Arc<SoftwareKey>,
    expires: Time,
}

/// No roll could be made up.
#[derive(Debug, thiserror::Error)]
#[error("no roll could be made up: {0}")]
pub(crate) struct TrialError(String);

impl Trials {
    /// The admission of a request, if it is one of a trial that is not over.
    pub(in super::super) fn admission(&self, body: &[u8], now: Time) -> Option<Admission> {
        let trials = self.lock();
        let mut alive = trials.iter().filter(|trial| now <= trial.expires);
        let trial = alive.find(|trial| trial.requests.iter().any(|request| request == body));
        trial.map(|trial| trial.admission.clone())
    }

    fn keep(&self, trial: Trial, now: Time) {
        let mut trials = self.lock();
        trials.retain(|trial| now <= trial.expires);
        if trials.len() >= MOST {
            trials.remove(0);
        }
        trials.push(trial);
    }

    fn find(&self, id: &str, now: Time) -> Option<(PendingRoll, Arc<SoftwareKey>)> {
        let trials = self.lock();
        let mut alive = trials.iter().filter(|trial| now <= trial.expires);
        let trial = alive.find(|trial| trial.id == id)?;
        Some((trial.pending.clone(), Arc::clone(&trial.identity)))
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Trial>> {
        // Nothing between lock and unlock can panic half-way through a change.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Guardian {
    /// Makes up a roll for `actor`, and puts that on record. It blocks, for as long as the generation of keys takes.
    pub(crate) fn begin_trial(&self, actor: &str) -> Result<types::Trial, TrialError> {
        let now = self.clock.now();
        let snapshot = self.snapshot().map_err(TrialError::of)?;
        let cast = Cast::generate(now)?;
        let protector = cast.protector(&snapshot)?;
        let health = cast.health_certificate(&snapshot, now)?;
        let pending = PendingRoll::new(
            protector.clone(),
            health.clone(),
            Algorithms::default(),
            ServiceVersion::V2,
        );
        let tampered = RollTransportKeyRequest {
            ingress_protector: tampered(protector.octets())?,
            health_certificate: health.der().to_vec(),
            algorithms: Algorithms::default(),
        };
        let requests = [pending.request(), tampered.to_xml()];
        let id: [u8; 16] = random::array(&mut System::new()).map_err(TrialError::of)?;
        let trial = Trial {
            id: hex::encode(&id),
            admission: Admission {
                actor: actor.to_owned(),
            },
            requests,
            pending,
            identity: Arc::new(cast.identity),
            expires: now.checked_add(LIFE).unwrap_or(Time::MAX),
        };
        let noted = self.note_trial(&trial.admission, digest(&protector.digest()), now);
        noted.map_err(TrialError::of)?;
        let shown = trial.shown()?;
        self.trials.keep(trial, now);
        Ok(shown)
    }

    /// Whether `body` is an answer that the synthetic host can use; `None` when there is no such trial.
    pub(crate) fn judge_trial(&self, id: &str, body: &[u8]) -> Option<types::TrialVerdict> {
        let (pending, identity) = self.trials.find(id, self.clock.now())?;
        let received = pending
            .receive(body, &self.caches)
            .map_err(TrialError::of)
            .and_then(|step| carry_out(step, |_| Some(&*identity)));
        let problem = received.err().map(|TrialError(reason)| reason);
        Some(types::TrialVerdict {
            opens: problem.is_none(),
            problem,
        })
    }
}

impl Trial {
    fn shown(&self) -> Result<types::Trial, TrialError> {
        let [request, tampered] = self.requests.clone().map(String::from_utf8);
        Ok(types::Trial {
            id: self.id.clone(),
            request: request.map_err(TrialError::of)?,
            tampered_request: tampered.map_err(TrialError::of)?,
            expires: self.expires.to_string(),
        })
    }
}

impl TrialError {
    fn of(reason: impl fmt::Display) -> Self {
        Self(reason.to_string())
    }
}

/// Who takes part: the owner of a machine that does not exist, and the host that would run it.
struct Cast {
    owner: GuardianCertificates,
    owner_keys: HashMap<Thumbprint, SoftwareKey>,
    identity: SoftwareKey,
}

impl Cast {
    fn generate(now: Time) -> Result<Self, TrialError> {
        let validity = Validity {
            not_before: now,
            not_after: now.checked_add(LIFE).unwrap_or(Time::MAX),
        };
        let size = KeySize::Rsa2048;
        let generated = thread::scope(|scope| {
            let signing =
                scope.spawn(move || self_signed(profile::guardian_signing(NAME, validity), size));
            let encryption = scope
                .spawn(move || self_signed(profile::guardian_encryption(NAME, validity), size));
            let identity = SoftwareKey::generate(size.bits());
            (signing.join(), encryption.join(), identity)
        });
        let (Ok(signing), Ok(encryption), identity) = generated else {
            return Err(TrialError::of("a thread that made a key has failed"));
        };
        let (signing, signing_key) = signing.map_err(TrialError::of)?;
        let (encryption, encryption_key) = encryption.map_err(TrialError::of)?;
        let certifying = GuardianCertificates::certify(
            signing.clone(),
            encryption.clone(),
            KeyEncryption::default(),
        );
        let owner_keys = HashMap::from([
            (signing.thumbprint(), signing_key),
            (encryption.thumbprint(), encryption_key),
        ]);
        Ok(Self {
            owner: carry_out(certifying, |key| owner_keys.get(key))?,
            owner_keys,
            identity: identity.map_err(TrialError::of)?,
        })
    }

    /// A protector of a new key, for the owner and the head of the fabric.
    fn protector(&self, snapshot: &Snapshot) -> Result<VerifiedProtector, TrialError> {
        let holdings = &snapshot.holdings;
        let head = holdings.ring.head(&Lineage::Fabric);
        let head = head.ok_or_else(|| TrialError::of("there is no primary pair"))?;
        let certifying = GuardianCertificates::certify(
            head.signing_certificate().clone(),
            head.encryption_certificate().clone(),
            head.key_encryption(),
        );
        let fabric = carry_out(certifying, |key| holdings.keys.find(key).ok())?;
        let key = TransportKey::random(&mut System::new()).map_err(TrialError::of)?;
        let creating = create(&self.owner, vec![fabric], key).map_err(TrialError::of)?;
        carry_out(creating, |key| self.owner_keys.get(key))
    }

    fn health_certificate(
        &self,
        snapshot: &Snapshot,
        now: Time,
    ) -> Result<hgs_pki::Certificate, TrialError> {
        let signers = Signers::at(&snapshot.state, now);
        let signer = signers.active();
        let signer = signer.ok_or_else(|| TrialError::of("no attestation signer can sign"))?;
        let keys = &snapshot.holdings.keys;
        health_certificate(keys, signer, self.identity.public(), now).map_err(TrialError::of)
    }
}

/// What the owner is called.
const NAME: &str = "trace";

/// The same document with one character of its last signature changed.
fn tampered(protector: &[u8]) -> Result<Vec<u8>, TrialError> {
    let mut octets = protector.to_vec();
    let is_base64 = |octet: &u8| octet.is_ascii_alphanumeric() || matches!(octet, b'+' | b'/');
    // The middle of the last long run of Base64, where every bit counts.
    let runs = octets
        .windows(LONG)
        .rposition(|run| run.iter().all(is_base64));
    let place = runs.and_then(|place| octets.get_mut(place));
    let place = place.ok_or_else(|| TrialError::of("the protector holds no signature"))?;
    *place = if *place == b'A' { b'B' } else { b'A' };
    Ok(octets)
}

/// Characters of Base64 that no name or identifier has in a row.
const LONG: usize = 40;

/// Drives a step with keys of this thread's own.
fn carry_out<'k, T, E: fmt::Display, K: PrivateKey + ?Sized + 'k>(
    mut step: Step<T, E>,
    key: impl Fn(&Thumbprint) -> Option<&'k K>,
) -> Result<T, TrialError> {
    let mut random = System::new();
    let find = |certificate: &Thumbprint| {
        key(certificate).ok_or_else(|| TrialError::of(format_args!("{certificate} has no key")))
    };
    loop {
        step = match step {
            Step::Done(value) => return Ok(value),
            Step::NeedsDecrypt(needed) => {
                let plaintext = find(needed.key())?.decrypt(needed.hash(), needed.ciphertext());
                let plaintext = plaintext.map_err(|_| DecryptionRefused);
                needed.resume(plaintext, &mut random)
            }
            Step::NeedsSign(needed) => {
                let signature = find(needed.key())?.sign(needed.scheme(), needed.message());
                needed.resume(signature.map_err(TrialError::of)?, &mut random)
            }
        }
        .map_err(TrialError::of)?;
    }
}
