//! One TPM, as long as it is used.

use std::os::unix::net::UnixStream;
use std::thread;
use std::time::Duration;

use hgs_crypto::SecretBytes;
use hgs_crypto::hash::{Sha256Digest, sha256};
use hgs_crypto::random::System;
use hgs_pki::endorsement::EndorsementCertificate;
use hgs_tcg::event_log::{Bank, PCR_COUNT, PcrValues};
use hgs_tcg::tpm::{
    self, Command, EK_CERTIFICATE_INDEX, EndorsementKey, Handle, KeyUseError, PcrSelection,
    PolicySession, Primary, PublicAndHandle, PublicError, ResponseCode, ResponseError,
    StartingPolicySession, StorageRootKey, created_primary, flush_context, manufacture,
};

use crate::device::Device;
use crate::error::TpmError;
use crate::journal::Journal;
use crate::key::AttestedKey;
use crate::transport::{self, Transport};

/// How often a command is sent again that the TPM wants again, and how long to wait before each: together some twenty seconds.
const TRIES: u32 = 60;
const WAIT: Duration = Duration::from_millis(20);
const LONGEST_WAIT: Duration = Duration::from_millis(500);

/// Where TCG says that a manufacturer or an operating system keeps primary keys (TCG TPM v2.0 Provisioning Guidance, 7.8).
const PERSISTENT_EK: u32 = manufacture::EK_HANDLE;
const PERSISTENT_SRK: u32 = 0x8100_0001;

/// What takes a TPM many seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Slow {
    /// Deriving its endorsement key.
    EndorsementKey,
    /// Deriving its storage root key.
    StorageRootKey,
    /// Making an identity key.
    IdentityKey,
}

/// A TPM. When this is dropped, every key and session that it has loaded is flushed.
pub struct Tpm {
    device: Device,
    transport: Box<dyn Transport>,
    /// What is loaded, the oldest first.
    loaded: Vec<Handle>,
    journal: Option<Journal>,
    progress: Box<dyn Fn(Slow) + Send>,
}

impl Tpm {
    /// Opens the TPM at `device` and flushes what a crashed process left behind in it, as its `journal` says.
    ///
    /// # Errors
    /// When there is none, or it does not answer.
    pub fn open(device: &Device, journal: Option<Journal>) -> Result<Self, TpmError> {
        let transport = transport::connect(device).map_err(|error| unreachable(device, error))?;
        // The kernel's resource manager does it itself.
        let journal = journal.filter(|_| !device.has_resource_manager());
        Self::begin(device.clone(), transport, journal)
    }

    /// Opens the TPM behind a connection that `device` names for people, as it has a process of its own behind a pair of
    /// sockets.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn over(device: Device, connection: UnixStream) -> Result<Self, TpmError> {
        let transport = transport::over(connection).map_err(|error| unreachable(&device, error))?;
        Self::begin(device, transport, None)
    }

    fn begin(
        device: Device,
        transport: Box<dyn Transport>,
        journal: Option<Journal>,
    ) -> Result<Self, TpmError> {
        let mut tpm = Self {
            device,
            transport,
            loaded: Vec::new(),
            journal,
            progress: Box::new(|_| ()),
        };
        tpm.execute(&tpm::read_clock())?;
        let served = tpm.transport.is_served();
        served.map_err(|error| unreachable(&tpm.device, error))?;
        if let Some(journal) = &tpm.journal {
            tpm.loaded = journal.left_behind()?;
            tpm.flush_all();
        }
        Ok(tpm)
    }

    /// Has `progress` told what takes many seconds before it begins.
    #[must_use]
    pub fn with_progress(mut self, progress: impl Fn(Slow) + Send + 'static) -> Self {
        self.progress = Box::new(progress);
        self
    }

    /// The device.
    #[must_use]
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Sends a command and returns the response, which may be a refusal. What the TPM wants again is sent again: the same
    /// octets, for the HMAC of a session is over them. What the command loads is flushed at the end.
    ///
    /// # Errors
    /// When the TPM does not answer.
    pub fn execute(&mut self, command: &[u8]) -> Result<Vec<u8>, TpmError> {
        self.tell(command);
        let mut wait = WAIT;
        for _ in 1..TRIES {
            let response = self.transmit(command)?;
            if !code(&response).is_transient() {
                return Ok(response);
            }
            thread::sleep(wait);
            wait = LONGEST_WAIT.min(wait * 2);
        }
        self.transmit(command)
    }

    fn transmit(&mut self, command: &[u8]) -> Result<Vec<u8>, TpmError> {
        let response = self.transport.transmit(command);
        let response = response.map_err(|error| unreachable(&self.device, error))?;
        if response.len() < 10 {
            let error = std::io::Error::from(std::io::ErrorKind::InvalidData);
            return Err(unreachable(&self.device, error));
        }
        if let Some(handle) = loaded_by(command, &response) {
            self.loaded.push(handle);
            self.note()?;
        }
        Ok(response)
    }

    fn tell(&self, command: &[u8]) {
        match Command::parse(command) {
            Ok(Command::CreatePrimary(Primary::EndorsementKey)) => {
                (self.progress)(Slow::EndorsementKey);
            }
            Ok(Command::CreatePrimary(Primary::StorageRootKey)) => {
                (self.progress)(Slow::StorageRootKey);
            }
            Ok(Command::Create { .. }) => (self.progress)(Slow::IdentityKey),
            _ => {}
        }
    }

    /// Flushes a key or session, which may be gone already.
    ///
    /// # Errors
    /// When the TPM does not answer.
    pub fn flush(&mut self, handle: Handle) -> Result<(), TpmError> {
        self.execute(&flush_context(handle))?;
        self.loaded.retain(|loaded| *loaded != handle);
        self.note()
    }

    /// Flushes all that was loaded.
    pub fn flush_all(&mut self) {
        for handle in self.loaded.clone().into_iter().rev() {
            if let Err(error) = self.flush(handle) {
                tracing::warn!(device = %self.device, %error, "a key or session stays in the TPM");
                return;
            }
        }
    }

    fn note(&self) -> Result<(), TpmError> {
        match &self.journal {
            Some(journal) => Ok(journal.note(&self.loaded)?),
            None => Ok(()),
        }
    }

    /// The endorsement key with RSA-2048, from TCG's template.
    ///
    /// # Errors
    /// When the TPM can't make it, or it is weak.
    pub fn endorsement_key(&mut self) -> Result<EndorsementKey, TpmError> {
        let found = self.primary(Primary::EndorsementKey, PERSISTENT_EK, |public| {
            EndorsementKey::parse(public)
        })?;
        Ok(found.0)
    }

    /// The storage root key with RSA-2048 and its handle. It is loaded if the TPM does not keep it.
    ///
    /// # Errors
    /// When the TPM can't make it, or it is weak.
    pub fn storage_root_key(&mut self) -> Result<(StorageRootKey, Handle), TpmError> {
        self.primary(Primary::StorageRootKey, PERSISTENT_SRK, |public| {
            StorageRootKey::parse(public)
        })
    }

    /// The primary key that stands at `persistent`, if it is made from the template, or else one that is made now.
    fn primary<K>(
        &mut self,
        primary: Primary,
        persistent: u32,
        parse: impl Fn(&[u8]) -> Result<K, PublicError>,
    ) -> Result<(K, Handle), TpmError> {
        let handle = Handle::new(persistent);
        let response = self.execute(&Command::ReadPublic(handle).octets())?;
        let kept = tpm::public_read(&response).ok();
        if let Some(key) = kept.and_then(|public| parse(public.octets()).ok()) {
            return Ok((key, handle));
        }
        let command = Command::CreatePrimary(primary);
        let response = self.execute(&command.octets())?;
        let PublicAndHandle { handle, public } = created_primary(&response)
            .map_err(|error| TpmError::of_response(command.name(), error))?;
        let key = match primary {
            Primary::EndorsementKey => "the endorsement key",
            Primary::StorageRootKey => "the storage root key",
        };
        let parsed = parse(public.octets()).map_err(|error| TpmError::Key { key, error })?;
        Ok((parsed, handle))
    }

    /// The certificate of the endorsement key with RSA-2048, which the maker of the TPM has put there. `None` if there is none.
    ///
    /// # Errors
    /// When it can't be read, or is not acceptable.
    pub fn endorsement_certificate(&mut self) -> Result<Option<EndorsementCertificate>, TpmError> {
        let response = self.execute(&tpm::nv_read_public(EK_CERTIFICATE_INDEX))?;
        let size = match tpm::nv_size(&response) {
            Ok(size) => size,
            Err(ResponseError::Refused(code)) if code.is_wrong_handle() => return Ok(None),
            Err(error) => return Err(TpmError::of_response("TPM2_NV_ReadPublic", error)),
        };
        let mut octets = Vec::new();
        for read in tpm::nv_reads(EK_CERTIFICATE_INDEX, size) {
            let response = self.execute(&read)?;
            let part = tpm::nv_octets(&response)
                .map_err(|error| TpmError::of_response("TPM2_NV_Read", error))?;
            octets.extend(part);
        }
        Ok(Some(EndorsementCertificate::from_octets(&octets)?))
    }

    /// The values of all PCRs in the bank of SHA-256, as the TPM says now. They prove nothing to others.
    ///
    /// # Errors
    /// When the TPM has no such bank.
    pub fn pcr_values(&mut self) -> Result<PcrValues, TpmError> {
        let mut values = PcrValues::new(Bank::Sha256);
        let all = PcrSelection::new((0..PCR_COUNT).map(|pcr| pcr as u8));
        for read in all.into_iter().flat_map(PcrSelection::reads) {
            for (pcr, value) in read.pcrs().zip(self.read_pcrs(read)?) {
                let inserted = values.insert(pcr.into(), &value);
                debug_assert!(inserted.is_ok(), "32 octets for a PCR below 24");
            }
        }
        Ok(values)
    }

    fn read_pcrs(&mut self, selection: PcrSelection) -> Result<Vec<Sha256Digest>, TpmError> {
        let response = self.execute(&tpm::read_pcrs_without_session(selection))?;
        tpm::pcrs_read_without_session(&response, selection)
            .map_err(|error| TpmError::of_response("TPM2_PCR_Read", error))?
            .ok_or(TpmError::NoSha256Bank)
    }

    /// Whether the TPM is locked after too many wrong passwords.
    ///
    /// # Errors
    /// When the TPM does not say.
    pub fn is_locked(&mut self) -> Result<bool, TpmError> {
        let response = self.execute(&tpm::get_permanent_attributes())?;
        tpm::is_in_lockout(&response)
            .map_err(|error| TpmError::of_response("TPM2_GetCapability", error))
    }

    /// Decrypts RSA-OAEP with SHA-256 and an empty label. What the TPM returns is encrypted on its way.
    ///
    /// # Errors
    /// When the key can't be used, as when PCRs have changed, or when the ciphertext was not made for it.
    pub fn decrypt(
        &mut self,
        key: &AttestedKey,
        ciphertext: &[u8],
    ) -> Result<SecretBytes, TpmError> {
        self.with(key, |tpm, session, handle| {
            let name = key.blob.public.name();
            let random = &mut System::new();
            let (awaiting, command) = session.decrypt(handle, &name, ciphertext, random)?;
            let response = tpm.execute(&command)?;
            let plaintext = awaiting.receive(&response);
            let error = match plaintext {
                Ok(plaintext) => return Ok(plaintext),
                // Some TPMs say so of wrong padding as well. A TPM that has failed says it to every command.
                Err(_) if code(&response).is_failure() => {
                    match code(&tpm.execute(&tpm::read_clock())?).is_failure() {
                        true => ResponseError::Refused(code(&response)).into(),
                        false => KeyUseError::Ciphertext,
                    }
                }
                Err(error) => error,
            };
            Err(TpmError::of_use("TPM2_RSA_Decrypt", error))
        })
    }

    /// Signs RSASSA-PKCS1-v1_5 with SHA-256.
    ///
    /// # Errors
    /// When the key can't be used, as when PCRs have changed.
    pub fn sign(&mut self, key: &AttestedKey, message: &[u8]) -> Result<Vec<u8>, TpmError> {
        self.with(key, |tpm, session, handle| {
            let name = key.blob.public.name();
            let random = &mut System::new();
            let (awaiting, command) = session.sign(handle, &name, &sha256(message), random)?;
            let response = tpm.execute(&command)?;
            let signature = awaiting.receive(&response);
            signature.map_err(|error| TpmError::of_use("TPM2_Sign", error))
        })
    }

    /// Loads a key and uses it in a session of its own. Slots are free again afterwards, whatever happens.
    fn with<T>(
        &mut self,
        key: &AttestedKey,
        work: impl FnOnce(&mut Self, PolicySession, Handle) -> Result<T, TpmError>,
    ) -> Result<T, TpmError> {
        self.and_flush(|tpm| {
            let (root, handle) = tpm.load(key)?;
            let session = tpm.policy_session(&key.storage_root_key, root, key.pcrs)?;
            work(tpm, session, handle)
        })
    }

    /// Flushes afterwards what `work` has loaded.
    pub(crate) fn and_flush<T>(
        &mut self,
        work: impl FnOnce(&mut Self) -> Result<T, TpmError>,
    ) -> Result<T, TpmError> {
        let before = self.loaded.len();
        let done = work(self);
        for handle in self.loaded.split_off(before).into_iter().rev() {
            self.flush(handle)?;
        }
        done
    }

    fn load(&mut self, key: &AttestedKey) -> Result<(Handle, Handle), TpmError> {
        let (root, parent) = self.storage_root_key()?;
        if root != key.storage_root_key {
            return Err(TpmError::OtherStorageRootKey);
        }
        let response = self.execute(&tpm::load(parent, &key.blob))?;
        let handle = tpm::loaded(&response, &key.blob)
            .map_err(|error| TpmError::of_response("TPM2_Load", error))?;
        Ok((parent, handle))
    }

    pub(crate) fn policy_session(
        &mut self,
        key: &StorageRootKey,
        handle: Handle,
        pcrs: PcrSelection,
    ) -> Result<PolicySession, TpmError> {
        let (starting, command) = StartingPolicySession::start(key, handle, &mut System::new())?;
        let response = self.execute(&command)?;
        let session = starting.started(&response);
        let session = session.map_err(|error| TpmError::of_use("TPM2_StartAuthSession", error))?;
        let response = self.execute(&session.policy_pcr(pcrs))?;
        tpm::done(&response).map_err(|error| TpmError::of_response("TPM2_PolicyPCR", error))?;
        Ok(session)
    }

    /// Extends a PCR in the bank of SHA-256.
    ///
    /// # Errors
    /// When the TPM refuses.
    pub fn extend_pcr(&mut self, pcr: u8, digest: &Sha256Digest) -> Result<(), TpmError> {
        let response = self.execute(&tpm::extend_pcr(pcr, digest))?;
        tpm::done(&response).map_err(|error| TpmError::of_response("TPM2_PCR_Extend", error))
    }
}

impl Drop for Tpm {
    fn drop(&mut self) {
        self.flush_all();
    }
}

impl std::fmt::Debug for Tpm {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Tpm({}, {:?})", self.device, self.loaded)
    }
}

/// The code of a response, which has at least a header.
fn code(response: &[u8]) -> ResponseCode {
    let octets = response[6..10].try_into().map(u32::from_be_bytes);
    ResponseCode::new(octets.unwrap_or(u32::MAX))
}

/// The handle that a command has loaded: the response to one that does begins with it.
fn loaded_by(command: &[u8], response: &[u8]) -> Option<Handle> {
    let code_of_command = u32::from_be_bytes(command.get(6..10)?.try_into().ok()?);
    // TPM2_CreatePrimary, TPM2_Load, TPM2_StartAuthSession
    if !matches!(code_of_command, 0x131 | 0x157 | 0x176) || code(response).value() != 0 {
        return None;
    }
    let handle = response.get(10..14)?.try_into().ok()?;
    Some(Handle::new(u32::from_be_bytes(handle)))
}

fn unreachable(device: &Device, error: std::io::Error) -> TpmError {
    use std::io::ErrorKind;
    let device = device.clone();
    match error.kind() {
        ErrorKind::NotFound | ErrorKind::ConnectionRefused => TpmError::Absent { device, error },
        ErrorKind::PermissionDenied => TpmError::Forbidden { device },
        ErrorKind::ResourceBusy | ErrorKind::WouldBlock | ErrorKind::TimedOut => {
            TpmError::InUse { device }
        }
        // ENODEV, ENXIO: the node is there, and no device behind it.
        _ if matches!(error.raw_os_error(), Some(6 | 19)) => TpmError::Absent { device, error },
        _ => TpmError::Broken { device, error },
    }
}

#[cfg(test)]
mod tests;
