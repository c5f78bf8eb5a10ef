//! Keys that this host keeps to start VMs while no guardian can be reached (section 13 of the protocol profile).
//!
//! ```text
//! kept-keys/17.json   what is kept, sealed so that the TPM opens it while its counter has the value 17
//! kept-keys.lock      held while that changes
//! report.lock         held while uses are reported
//! ```
//!
//! All that a host keeps is in one file, whose name is the value that the counter has to have. A change writes the next file
//! and then increments the counter: from then on the TPM refuses the old file and every copy of it. So a use that was counted
//! stays counted, whatever is put back, and a crash between the two steps loses nothing. The key of the file is sealed to the
//! PCRs that the identity key is bound to, with the values that were attested.
//!
//! The keys are encrypted; the rest can be read without the TPM and is authenticated with them.

mod store;

use std::num::NonZeroU32;

use hgs_crypto::{CryptoError, SecretBytes, base64};
use hgs_custody_tpm::TpmError;
use hgs_files::{FileError, Lock};
use hgs_kps::ServiceVersion;
use hgs_pki::Time;
use hgs_pki::health::HealthKind;
use hgs_protector::transport_key_blob::CachingPolicy;
use hgs_protector::{Protector, ProtectorDigest, TransportKey};

use self::store::{Entry, KeptKeys};
use crate::certify::blocking;
use crate::error::Error;
use crate::host::GuardedHost;
use crate::sealed_file::{SealedFile, SealedFileError};
use crate::service::Refused;
use crate::unwrap::Unwrapped;

/// Where the counter is in the NV memory of the TPM, among the indices of its owner.
pub const COUNTER_INDEX: u32 = 0x0180_4801;

/// Why a VM can't be started with a key that this host has kept.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeptKeyError {
    /// No guardian has allowed it, or the key was deleted, or the VM has another protector by now.
    #[error("this host keeps no key for this protector")]
    NotKept,
    /// The key was used as often as the guardian allowed.
    #[error("the kept key was used as often as its guardian allows")]
    UsedUp,
    /// Its time is over.
    #[error("the kept key expired at {0}")]
    Expired(Time),
    /// The TPM does not open it.
    #[error("the kept key does not open: {0}")]
    Tpm(TpmError),
    /// What was kept was altered.
    #[error("the file of kept keys was altered")]
    Altered,
    /// A file can't be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// The system ran out of randomness or of threads.
    #[error("the system fails: {0}")]
    System(String),
}

impl From<TpmError> for KeptKeyError {
    fn from(error: TpmError) -> Self {
        Self::Tpm(error)
    }
}

impl From<CryptoError> for KeptKeyError {
    fn from(error: CryptoError) -> Self {
        Self::System(error.to_string())
    }
}

impl KeptKeyError {
    /// Whether nothing of what is kept will ever open again.
    fn is_final(&self) -> bool {
        match self {
            Self::Altered | Self::Tpm(TpmError::CounterChanged) => true,
            Self::Tpm(error) => error.needs_new_key(),
            _ => false,
        }
    }
}

/// A key that was used offline, and what is left of it.
#[derive(Debug)]
pub struct KeptKey {
    key: TransportKey,
    /// How often it can be used after this.
    pub uses_left: u32,
    /// Until when.
    pub until: Time,
}

impl KeptKey {
    /// The transport key of the protector that it was asked for.
    #[must_use]
    pub fn key(&self) -> &TransportKey {
        &self.key
    }

    /// Opens a file that is sealed under that protector.
    ///
    /// # Errors
    /// When it is not, or was altered.
    pub fn open(&self, file: &[u8]) -> Result<SecretBytes, SealedFileError> {
        SealedFile::read(file)?.open(&self.key)
    }
}

/// Uses of a key that a guardian has not heard of.
pub(crate) struct OfflineUses {
    pub(crate) count: NonZeroU32,
    pub(crate) key: TransportKey,
    _lock: Lock,
}

/// What can be told of a kept key without the TPM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptKeySummary {
    /// What it is kept for, as its caller named it.
    pub name: String,
    /// The protector that it is the key of.
    pub protector: ProtectorDigest,
    /// How often it can be used.
    pub uses_left: u32,
    /// Until when.
    pub until: Time,
    /// How often it was used since a guardian heard of it.
    pub unreported: u32,
}

impl GuardedHost {
    fn kept(&self) -> Result<KeptKeys, Error> {
        let state = self.state()?;
        Ok(KeptKeys {
            folder: state.kept_keys(),
            lock: state.kept_keys_lock(),
            report_lock: state.report_lock(),
            identity: state.tpm_identity(HealthKind::Encryption),
            tpm: self.tpm()?,
            now: self.now(),
        })
    }

    /// Works with what is kept where that may block.
    async fn with_kept<T: Send + 'static>(
        &self,
        work: impl FnOnce(&KeptKeys) -> Result<T, KeptKeyError> + Send + 'static,
    ) -> Result<T, Error> {
        let kept = self.kept()?;
        blocking(move || work(&kept)).await
    }

    /// What this host keeps to start VMs while no guardian can be reached, as far as its files say: the TPM is not asked.
    ///
    /// # Errors
    /// When they can't be read.
    pub fn kept_keys(&self) -> Result<Vec<KeptKeySummary>, Error> {
        Ok(self.kept()?.summaries()?)
    }

    /// Keeps the key of the egress protector for `name`, if the guardian allows that; what was kept for it before is deleted in any
    /// case. To be called once that protector is the current one.
    ///
    /// # Errors
    /// When the TPM does not take it. Only the offline start is lost then.
    pub async fn keep_key(&self, name: &str, unwrapped: &Unwrapped) -> Result<(), Error> {
        let (egress, key) = (unwrapped.egress(), unwrapped.egress_key().clone());
        let (octets, digest) = (egress.octets().to_vec(), egress.digest());
        self.keep(name, octets, digest, key, unwrapped.caching())
            .await
    }

    async fn keep(
        &self,
        name: &str,
        protector: Vec<u8>,
        digest: ProtectorDigest,
        key: TransportKey,
        policy: Option<CachingPolicy>,
    ) -> Result<(), Error> {
        let name = name.to_owned();
        let is_usable = |policy: &CachingPolicy| policy.max_offline_unwraps > 0;
        match policy.filter(is_usable) {
            Some(policy) => {
                self.with_kept(move |kept| kept.keep(&name, (&protector, &digest), &key, policy))
                    .await
            }
            None => self.forget_key(&name).await,
        }
    }

    /// Uses the key that is kept of a protector. To be called when no guardian answers, and not when one has refused.
    ///
    /// # Errors
    /// [`Error::KeptKey`] when there is none, it has expired or was used up, or the TPM does not open it: the host has
    /// booted something else, say.
    pub async fn use_kept_key(&self, protector: &[u8]) -> Result<KeptKey, Error> {
        let caches = self.caches();
        let protector =
            Protector::read(protector, &caches.certificates)?.verify(&caches.signatures)?;
        let digest = protector.digest();
        let kept = self.with_kept(move |kept| kept.take(&digest)).await?;
        match protector.check_transport_key(&kept.key) {
            Ok(()) => Ok(kept),
            Err(_) => Err(KeptKeyError::Altered.into()),
        }
    }

    /// Deletes the key that is kept for `name`, if there is one.
    ///
    /// # Errors
    /// When the TPM or the folder refuse.
    pub async fn forget_key(&self, name: &str) -> Result<(), Error> {
        let name = name.to_owned();
        self.with_kept(move |kept| kept.change(|entry| (entry.name != name).then(|| entry.clone())))
            .await
    }

    /// Tells the guardian of uses that it has not heard of, and renews what is kept. Returns how many protectors were reported.
    ///
    /// # Errors
    /// The first refusal or failure.
    pub async fn report_offline_use(&self) -> Result<usize, Error> {
        let kept = self.kept()?;
        let entries = kept.entries()?.into_iter();
        let unreported = entries.filter(|entry| entry.unreported > 0);
        let protectors: Vec<_> = unreported.collect();
        for entry in &protectors {
            let octets = base64::decode(&entry.protector).map_err(|_| KeptKeyError::Altered)?;
            // The egress protector is not used: the VM may run, and its state is under the key of the ingress protector.
            self.unwrap(&octets, ServiceVersion::V2).await?;
        }
        Ok(protectors.len())
    }

    /// The report about a protector for its next request. What can't be opened is not reported. While the lock is held, no other
    /// request of this host reports: each use is reported once.
    pub(crate) async fn offline_report(
        &self,
        digest: ProtectorDigest,
    ) -> Result<Option<OfflineUses>, Error> {
        let report = self.with_kept(move |kept| {
            if kept.numbers()?.is_empty() {
                return Ok(None);
            }
            let lock = Lock::wait_or_create(&kept.report_lock)?;
            let unreported = kept.unreported(&digest)?;
            Ok(unreported.map(|(count, key)| OfflineUses {
                count,
                key,
                _lock: lock,
            }))
        });
        match report.await {
            Err(Error::KeptKey(error)) => {
                tracing::warn!(%error, "offline use of a key can't be reported");
                Ok(None)
            }
            other => other,
        }
    }

    /// After a release of the keys of a protector: what is kept of it may be used as that release says, and has been reported.
    pub(crate) async fn renew_kept_key(
        &self,
        digest: ProtectorDigest,
        policy: Option<CachingPolicy>,
    ) -> Result<(), Error> {
        let digest = digest.to_string();
        self.with_kept(move |kept| {
            kept.change(|entry| match (entry.digest == digest, policy) {
                (false, _) => Some(entry.clone()),
                (true, None) => None,
                (true, Some(policy)) => Some(Entry {
                    uses_left: policy.max_offline_unwraps,
                    until: policy.expiry,
                    unreported: 0,
                    ..entry.clone()
                }),
            })
        })
        .await
    }

    /// After a refusal: deletes all that is kept if it is about this host, and what is kept of the protector otherwise. A
    /// guardian that refuses is not one that can't be reached.
    pub(crate) async fn after_refusal(
        &self,
        error: Error,
        protector: Option<ProtectorDigest>,
    ) -> Error {
        let Error::Services(services) = &error else {
            return error;
        };
        let deleted = match (services.last().cause.refuses(), protector) {
            (Some(Refused::Host), _) => self.with_kept(KeptKeys::wipe).await,
            (Some(Refused::Protector), Some(digest)) => self.renew_kept_key(digest, None).await,
            _ => Ok(()),
        };
        if let Err(failure) = deleted {
            tracing::warn!(%failure, "kept keys can't be deleted as they should be after a refusal");
        }
        error
    }
}
