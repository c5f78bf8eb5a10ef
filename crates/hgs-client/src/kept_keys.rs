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

use std::num::NonZeroU32;
use std::path::PathBuf;

use hgs_crypto::hash::Sha256Digest;
use hgs_crypto::random::System;
use hgs_crypto::{CryptoError, SecretBytes, aes, base64};
use hgs_custody_tpm::{Seal, Tpm, TpmError};
use hgs_files::{FileError, Lock, Readers};
use hgs_kps::ServiceVersion;
use hgs_pki::Time;
use hgs_pki::health::HealthKind;
use hgs_protector::transport_key_blob::CachingPolicy;
use hgs_protector::{Protector, ProtectorDigest, TransportKey};
use hgs_tcg::tpm::{Counter, PcrSelection, SealedObject, StorageRootKey};
use serde::{Deserialize, Serialize};

use crate::certify::blocking;
use crate::error::Error;
use crate::host::GuardedHost;
use crate::service::Refused;
use crate::tpm::HostTpm;
use crate::tpm_identity::TpmIdentity;
use crate::unwrap::Unwrapped;

/// Where the counter is in the NV memory of the TPM, among the indices of its owner.
pub const COUNTER_INDEX: u32 = 0x0180_4801;
const COUNTER: Counter = Counter::at(COUNTER_INDEX);

/// Octets of the longest file: a thousand VMs with protectors of the usual size.
const MAX_LENGTH: usize = 64 * 1024 * 1024;
/// VMs that keys are kept for.
const MAX_ENTRIES: usize = 1024;

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
    pub fn open(&self, file: &[u8]) -> Result<SecretBytes, crate::sealed_file::SealedFileError> {
        crate::sealed_file::SealedFile::read(file)?.open(&self.key)
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

/// One key, but for the key itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    name: String,
    /// SHA-256, in hexadecimal.
    digest: String,
    /// The octets of the protector, in Base64: the uses are reported with it.
    protector: String,
    uses_left: u32,
    /// Unix seconds.
    until: u64,
    unreported: u32,
}

/// What is authenticated with the keys.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Described {
    /// The value of the counter.
    counter: u64,
    /// The time of the host at the last change, in Unix seconds, and the clock of the TPM: the time of the host does not go back
    /// behind them.
    time: u64,
    tpm_clock: u64,
    entries: Vec<Entry>,
}

/// The file. Octets are in Base64.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    described: Described,
    pcrs: Vec<u8>,
    /// The digest of the policy over them.
    pcr_policy: String,
    storage_root_key: String,
    /// The sealed key of this file: TPM2B_PRIVATE after its size, and TPMT_PUBLIC.
    private: String,
    public: String,
    /// The keys of the entries in their order, encrypted.
    keys: String,
}

/// What a file is sealed to, beside the counter.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Binding {
    pcrs: PcrSelection,
    /// The digest of the policy that demands their values.
    policy: Sha256Digest,
    storage_root_key: StorageRootKey,
}

/// What was opened: entries with their keys.
struct Opened {
    binding: Binding,
    time: u64,
    tpm_clock: u64,
    entries: Vec<(Entry, TransportKey)>,
}

/// The folder of kept keys and the TPM that opens them. Its calls block.
#[derive(Debug, Clone)]
pub(crate) struct KeptKeys {
    pub(crate) folder: PathBuf,
    pub(crate) lock: PathBuf,
    pub(crate) report_lock: PathBuf,
    pub(crate) tpm: HostTpm,
    /// The file of the identity key, whose PCRs count.
    pub(crate) identity: PathBuf,
    pub(crate) now: Time,
}

impl KeptKeys {
    /// What is kept, as far as that can be told without the TPM.
    fn summaries(&self) -> Result<Vec<KeptKeySummary>, FileError> {
        let entries = self.entries()?;
        Ok(entries.iter().filter_map(Entry::summary).collect())
    }

    fn entries(&self) -> Result<Vec<Entry>, FileError> {
        let newest = self.numbers()?.into_iter().max();
        let kept = match newest {
            Some(number) => self.read(number)?,
            None => None,
        };
        Ok(kept.map_or_else(Vec::new, |kept| kept.described.entries))
    }

    /// The values of the counter that there are files for.
    fn numbers(&self) -> Result<Vec<u64>, FileError> {
        let entries = match std::fs::read_dir(&self.folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(FileError::at(&self.folder, error)),
        };
        let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        Ok(names
            .filter_map(|name| name.strip_suffix(".json")?.parse().ok())
            .collect())
    }

    fn file(&self, number: u64) -> PathBuf {
        self.folder.join(format!("{number}.json"))
    }

    fn read(&self, number: u64) -> Result<Option<Kept>, FileError> {
        let octets = hgs_files::optional(hgs_files::read(&self.file(number), MAX_LENGTH))?;
        Ok(octets.and_then(|octets| serde_json::from_slice(&octets).ok()))
    }

    /// What is kept, opened by the TPM. Files of other values of the counter are removed.
    fn open(&self, tpm: &mut Tpm) -> Result<Option<Opened>, KeptKeyError> {
        let counter = tpm.counter(COUNTER)?;
        for number in self.numbers()? {
            if Some(number) != counter {
                hgs_files::optional(hgs_files::remove(&self.file(number)))?;
            }
        }
        let Some(counter) = counter else {
            return Ok(None);
        };
        if !hgs_files::exists(&self.file(counter))? {
            return Ok(None);
        }
        let kept = self.read(counter)?.ok_or(KeptKeyError::Altered)?;
        if kept.described.counter != counter {
            return Err(KeptKeyError::Altered);
        }
        let binding = kept.binding().ok_or(KeptKeyError::Altered)?;
        let file_key = kept.unseal(tpm, &binding)?;
        let keys = base64::decode(&kept.keys).map_err(|_| KeptKeyError::Altered)?;
        let keys = aes::gcm_open(&file_key, &kept.described.octets(), &keys)
            .map_err(|_| KeptKeyError::Altered)?;
        let (parts, rest) = keys.expose().as_chunks::<{ TransportKey::LENGTH }>();
        if !rest.is_empty() || parts.len() != kept.described.entries.len() {
            return Err(KeptKeyError::Altered);
        }
        let keys = parts.iter().map(|part| {
            TransportKey::from_secret(SecretBytes::from(&part[..]))
                .map_err(|_| KeptKeyError::Altered)
        });
        let entries = kept.described.entries.into_iter().zip(keys);
        Ok(Some(Opened {
            binding,
            time: kept.described.time,
            tpm_clock: kept.described.tpm_clock,
            entries: entries
                .map(|(entry, key)| Ok((entry, key?)))
                .collect::<Result<_, KeptKeyError>>()?,
        }))
    }

    /// Writes what is kept from now on, and has the TPM refuse what was kept before.
    fn write(
        &self,
        tpm: &mut Tpm,
        binding: &Binding,
        before: Option<&Opened>,
        entries: &[(Entry, TransportKey)],
    ) -> Result<(), KeptKeyError> {
        if entries.is_empty() {
            return self.remove_all(tpm);
        }
        let counter = match tpm.counter(COUNTER)? {
            Some(counter) => counter,
            None => tpm.define_counter(COUNTER)?,
        };
        let next = counter + 1;
        let file_key = SecretBytes::random(aes::KEY_LENGTH, &mut System::new())?;
        let sealed = tpm.seal(&binding.seal(next), &file_key)?;
        let tpm_clock = tpm.clock()?;
        let described = Described {
            counter: next,
            time: self.time(before, tpm_clock),
            tpm_clock,
            entries: entries.iter().map(|(entry, _)| entry.clone()).collect(),
        };
        // Room for all of them from the start: no reallocation leaves a copy behind.
        let mut keys = Vec::with_capacity(entries.len() * TransportKey::LENGTH);
        for (_, key) in entries {
            keys.extend_from_slice(key.secret().expose());
        }
        let keys = SecretBytes::new(keys);
        let octets = described.octets();
        let keys = aes::gcm_seal(&file_key, &octets, keys.expose(), &mut System::new())?;
        let kept = Kept {
            described,
            pcrs: binding.pcrs.pcrs().collect(),
            pcr_policy: base64::encode(&binding.policy),
            storage_root_key: base64::encode(binding.storage_root_key.public().octets()),
            private: base64::encode(sealed.private()),
            public: base64::encode(sealed.public()),
            keys: base64::encode(&keys),
        };
        hgs_files::private_folder(&self.folder)?;
        let json = serde_json::to_vec(&kept).expect("strings are written to memory");
        hgs_files::replace(&self.file(next), &json, Readers::Owner)?;
        if tpm.increment(COUNTER)? != next {
            return Err(TpmError::CounterChanged.into());
        }
        hgs_files::optional(hgs_files::remove(&self.file(counter)))?;
        Ok(())
    }

    /// Deletes all that is kept. Copies do not open again: a counter that is made later has a higher value.
    fn remove_all(&self, tpm: &mut Tpm) -> Result<(), KeptKeyError> {
        self.remove_files()?;
        Ok(tpm.remove_counter(COUNTER)?)
    }

    fn remove_files(&self) -> Result<(), FileError> {
        for number in self.numbers()? {
            hgs_files::optional(hgs_files::remove(&self.file(number)))?;
        }
        Ok(())
    }

    /// The time in Unix seconds. It does not go back behind that of the last change, nor behind what the clock of the TPM has
    /// counted since, however the clock of the host is set.
    fn time(&self, before: Option<&Opened>, tpm_clock: u64) -> u64 {
        let now = u64::try_from(self.now.unix()).unwrap_or(0);
        let counted = before.map_or(0, |before| {
            let passed = tpm_clock.saturating_sub(before.tpm_clock) / 1000;
            before.time.saturating_add(passed)
        });
        now.max(counted)
    }

    /// To what this host seals now: the PCRs of its identity key, with the values that were attested. `None` if it does not
    /// attest by its TPM.
    fn binding(&self) -> Result<Option<Binding>, FileError> {
        let identity = TpmIdentity::load(&self.identity, HealthKind::Encryption, &self.tpm)?;
        Ok(identity.and_then(|identity| {
            let key = identity.key.attested();
            Some(Binding {
                pcrs: key.pcrs,
                policy: key.blob.public.auth_policy().try_into().ok()?,
                storage_root_key: key.storage_root_key.clone(),
            })
        }))
    }

    fn lock(&self) -> Result<Lock, FileError> {
        Lock::wait_or_create(&self.lock)
    }

    /// Keeps the key of a protector for `name`, in the place of what was kept for it.
    fn keep(
        &self,
        name: &str,
        (protector, digest): (&[u8], &ProtectorDigest),
        key: &TransportKey,
        policy: CachingPolicy,
    ) -> Result<(), KeptKeyError> {
        let _lock = self.lock()?;
        let binding = self.binding()?.ok_or(KeptKeyError::NotKept)?;
        let mut tpm = self.tpm.open()?;
        let before = self.open_or_begin_anew(&mut tpm)?;
        let now = self.time(before.as_ref(), tpm.clock()?);
        let entry = Entry {
            name: name.to_owned(),
            digest: digest.to_string(),
            protector: base64::encode(protector),
            uses_left: policy.max_offline_unwraps,
            until: policy.expiry,
            unreported: 0,
        };
        let others = before.iter().flat_map(|before| &before.entries);
        let mut entries: Vec<_> = others
            .filter(|(other, _)| other.name != name && other.digest != entry.digest)
            .filter(|(other, _)| other.until >= now || other.unreported > 0)
            .take(MAX_ENTRIES - 1)
            .cloned()
            .collect();
        entries.push((entry, key.clone()));
        self.write(&mut tpm, &binding, before.as_ref(), &entries)
    }

    /// What is kept. What will never open again is deleted.
    fn open_or_begin_anew(&self, tpm: &mut Tpm) -> Result<Option<Opened>, KeptKeyError> {
        match self.open(tpm) {
            Err(error) if error.is_final() => {
                tracing::warn!(%error, "kept keys are of no more use and are deleted");
                self.remove_all(tpm)?;
                Ok(None)
            }
            outcome => outcome,
        }
    }

    /// Counts a use of the key of a protector, and returns it.
    fn take(&self, digest: &ProtectorDigest) -> Result<KeptKey, KeptKeyError> {
        let _lock = self.lock()?;
        let digest = digest.to_string();
        let is_there = self
            .summaries()?
            .iter()
            .any(|kept| kept.protector.to_string() == digest);
        if !is_there {
            return Err(KeptKeyError::NotKept);
        }
        let mut tpm = self.tpm.open()?;
        let mut before = self.open(&mut tpm)?.ok_or(KeptKeyError::NotKept)?;
        let time = self.time(Some(&before), tpm.clock()?);
        let found = before
            .entries
            .iter_mut()
            .find(|(entry, _)| entry.digest == digest);
        let (entry, key) = found.ok_or(KeptKeyError::NotKept)?;
        let until = Time::from_unix(i64::try_from(entry.until).unwrap_or(i64::MAX));
        if time > entry.until {
            return Err(KeptKeyError::Expired(until));
        }
        entry.uses_left = entry.uses_left.checked_sub(1).ok_or(KeptKeyError::UsedUp)?;
        entry.unreported = entry.unreported.saturating_add(1);
        let kept = KeptKey {
            key: key.clone(),
            uses_left: entry.uses_left,
            until,
        };
        // The use counts before it is made.
        self.write(&mut tpm, &before.binding, Some(&before), &before.entries)?;
        Ok(kept)
    }

    /// How often the key of a protector was used since a guardian heard of it, with that key.
    fn unreported(
        &self,
        digest: &ProtectorDigest,
    ) -> Result<Option<(NonZeroU32, TransportKey)>, KeptKeyError> {
        let digest = digest.to_string();
        let _lock = self.lock()?;
        let is_unreported =
            |kept: &KeptKeySummary| kept.unreported > 0 && kept.protector.to_string() == digest;
        if !self.summaries()?.iter().any(is_unreported) {
            return Ok(None);
        }
        let mut tpm = self.tpm.open()?;
        let Some(opened) = self.open(&mut tpm)? else {
            return Ok(None);
        };
        let found = opened
            .entries
            .into_iter()
            .find(|(entry, _)| entry.digest == digest);
        Ok(found.and_then(|(entry, key)| Some((NonZeroU32::new(entry.unreported)?, key))))
    }

    /// Changes the entries for which `change` says so: `None` deletes one.
    fn change(&self, change: impl Fn(&Entry) -> Option<Entry>) -> Result<(), KeptKeyError> {
        let is_changed = |entry: &Entry| change(entry).as_ref() != Some(entry);
        if !self.entries()?.iter().any(is_changed) {
            return Ok(());
        }
        let _lock = self.lock()?;
        let mut tpm = self.tpm.open()?;
        let Some(before) = self.open_or_begin_anew(&mut tpm)? else {
            return Ok(());
        };
        let entries: Vec<_> = (before.entries.iter())
            .filter_map(|(entry, key)| Some((change(entry)?, key.clone())))
            .collect();
        self.write(&mut tpm, &before.binding, Some(&before), &entries)
    }

    /// Deletes all that is kept: files in any case, and the counter if the TPM answers.
    fn wipe(&self) -> Result<(), KeptKeyError> {
        if self.numbers()?.is_empty() {
            return Ok(());
        }
        let _lock = self.lock()?;
        self.remove_files()?;
        Ok(self.tpm.open()?.remove_counter(COUNTER)?)
    }
}

impl Entry {
    fn summary(&self) -> Option<KeptKeySummary> {
        Some(KeptKeySummary {
            name: self.name.clone(),
            protector: digest_of(&self.digest)?,
            uses_left: self.uses_left,
            until: Time::from_unix(i64::try_from(self.until).unwrap_or(i64::MAX)),
            unreported: self.unreported,
        })
    }
}

fn digest_of(text: &str) -> Option<ProtectorDigest> {
    let octets = hgs_crypto::hex::decode(text)?;
    Some(ProtectorDigest::from_bytes(octets.try_into().ok()?))
}

impl Described {
    /// What is authenticated.
    fn octets(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("strings are written to memory")
    }
}

impl Binding {
    fn seal(&self, value: u64) -> Seal<'_> {
        Seal {
            storage_root_key: &self.storage_root_key,
            pcrs: self.pcrs,
            pcr_policy: &self.policy,
            counter: COUNTER,
            value,
        }
    }
}

impl Kept {
    fn binding(&self) -> Option<Binding> {
        let octets = |text: &str| base64::decode(text).ok();
        Some(Binding {
            pcrs: PcrSelection::new(self.pcrs.iter().copied()).ok()?,
            policy: octets(&self.pcr_policy)?.try_into().ok()?,
            storage_root_key: StorageRootKey::parse(&octets(&self.storage_root_key)?).ok()?,
        })
    }

    /// Has the TPM open the key of the file.
    fn unseal(&self, tpm: &mut Tpm, binding: &Binding) -> Result<SecretBytes, KeptKeyError> {
        let octets = |text: &str| base64::decode(text).map_err(|_| KeptKeyError::Altered);
        let object = SealedObject::new(octets(&self.private)?, octets(&self.public)?);
        let object = object.map_err(|_| KeptKeyError::Altered)?;
        Ok(tpm.unseal(&binding.seal(self.described.counter), &object)?)
    }
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
