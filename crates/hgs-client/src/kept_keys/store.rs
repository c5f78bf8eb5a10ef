//! The files of kept keys, and how the TPM opens them.

use std::num::NonZeroU32;
use std::path::PathBuf;

use hgs_crypto::hash::Sha256Digest;
use hgs_crypto::random::System;
use hgs_crypto::{SecretBytes, aes, base64, hex};
use hgs_custody_tpm::{Seal, Tpm, TpmError};
use hgs_files::{FileError, Lock, Readers};
use hgs_pki::Time;
use hgs_pki::health::HealthKind;
use hgs_protector::transport_key_blob::CachingPolicy;
use hgs_protector::{ProtectorDigest, TransportKey};
use hgs_tcg::tpm::{Counter, PcrSelection, SealedObject, StorageRootKey};
use serde::{Deserialize, Serialize};

use super::{COUNTER_INDEX, KeptKey, KeptKeyError, KeptKeySummary};
use crate::tpm::HostTpm;
use crate::tpm_identity::TpmIdentity;

const COUNTER: Counter = Counter::at(COUNTER_INDEX);

/// Octets of the longest file: a thousand VMs with protectors of the usual size.
const MAX_LENGTH: usize = 64 * 1024 * 1024;
/// VMs that keys are kept for.
const MAX_ENTRIES: usize = 1024;

/// One key, but for the key itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Entry {
    pub(super) name: String,
    /// SHA-256, in hexadecimal.
    pub(super) digest: String,
    /// The octets of the protector, in Base64: the uses are reported with it.
    pub(super) protector: String,
    pub(super) uses_left: u32,
    /// Unix seconds.
    pub(super) until: u64,
    pub(super) unreported: u32,
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
pub(super) struct KeptKeys {
    pub(super) folder: PathBuf,
    pub(super) lock: PathBuf,
    pub(super) report_lock: PathBuf,
    pub(super) tpm: HostTpm,
    /// The file of the identity key, whose PCRs count.
    pub(super) identity: PathBuf,
    pub(super) now: Time,
}

impl KeptKeys {
    /// What is kept, as far as that can be told without the TPM.
    pub(super) fn summaries(&self) -> Result<Vec<KeptKeySummary>, FileError> {
        let entries = self.entries()?;
        Ok(entries.iter().filter_map(Entry::summary).collect())
    }

    pub(super) fn entries(&self) -> Result<Vec<Entry>, FileError> {
        let newest = self.numbers()?.into_iter().max();
        let kept = match newest {
            Some(number) => self.read(number)?,
            None => None,
        };
        Ok(kept.map_or_else(Vec::new, |kept| kept.described.entries))
    }

    /// The values of the counter that there are files for.
    pub(super) fn numbers(&self) -> Result<Vec<u64>, FileError> {
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
    pub(super) fn keep(
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
    pub(super) fn take(&self, digest: &ProtectorDigest) -> Result<KeptKey, KeptKeyError> {
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
    pub(super) fn unreported(
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
    pub(super) fn change(
        &self,
        change: impl Fn(&Entry) -> Option<Entry>,
    ) -> Result<(), KeptKeyError> {
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
    pub(super) fn wipe(&self) -> Result<(), KeptKeyError> {
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
    let octets = hex::decode(text)?;
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
