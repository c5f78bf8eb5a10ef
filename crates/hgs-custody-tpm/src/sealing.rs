//! Counters in NV memory, and secrets that a TPM gives back while PCRs and a counter have the values that were demanded.

use hgs_crypto::SecretBytes;
use hgs_crypto::hash::Sha256Digest;
use hgs_crypto::random::System;
use hgs_tcg::tpm::{
    self, Counter, KeyUseError, PcrSelection, ResponseError, SealedObject, StartingSealingSession,
    StorageRootKey,
};

use crate::{Tpm, TpmError};

/// What a secret is sealed to.
#[derive(Debug, Clone, Copy)]
pub struct Seal<'a> {
    /// The storage root key as it was when the host attested: sessions are salted to it.
    pub storage_root_key: &'a StorageRootKey,
    /// The PCRs.
    pub pcrs: PcrSelection,
    /// The digest of the policy that demands their values.
    pub pcr_policy: &'a Sha256Digest,
    /// The counter.
    pub counter: Counter,
    /// The value that it has to have.
    pub value: u64,
}

impl Tpm {
    /// The value of a counter. `None` if the TPM does not have it.
    ///
    /// # Errors
    /// [`TpmError::ForeignIndex`] when something else stands at its index.
    pub fn counter(&mut self, counter: Counter) -> Result<Option<u64>, TpmError> {
        let response = self.execute(&tpm::nv_read_public(counter.index()))?;
        match counter.has_value(&response) {
            Ok(Some(true)) => {}
            // A process has ended between its definition and its first value.
            Ok(Some(false)) => return self.increment(counter).map(Some),
            Ok(None) => return Err(TpmError::ForeignIndex(counter.index())),
            Err(ResponseError::Refused(code)) if code.is_wrong_handle() => return Ok(None),
            Err(error) => return Err(TpmError::of_response("TPM2_NV_ReadPublic", error)),
        }
        let response = self.execute(&counter.read())?;
        let value = Counter::value(&response);
        value
            .map(Some)
            .map_err(|error| TpmError::of_response("TPM2_NV_Read", error))
    }

    /// Makes a counter and returns its first value, which is above those of all counters that this TPM has had.
    ///
    /// # Errors
    /// [`TpmError::NoNvMemory`] when there is no room for it.
    pub fn define_counter(&mut self, counter: Counter) -> Result<u64, TpmError> {
        let response = self.execute(&counter.define())?;
        tpm::done(&response).map_err(|error| match error {
            ResponseError::Refused(code) if code.is_out_of_nv() => TpmError::NoNvMemory(code),
            error => TpmError::of_response("TPM2_NV_DefineSpace", error),
        })?;
        self.increment(counter)
    }

    /// Increments a counter and returns its value.
    ///
    /// # Errors
    /// When the TPM refuses.
    pub fn increment(&mut self, counter: Counter) -> Result<u64, TpmError> {
        let response = self.execute(&counter.increment())?;
        tpm::done(&response).map_err(|error| TpmError::of_response("TPM2_NV_Increment", error))?;
        let value = self.counter(counter)?;
        value.ok_or_else(|| TpmError::ForeignIndex(counter.index()))
    }

    /// Removes a counter, which may not be there.
    ///
    /// # Errors
    /// When the TPM refuses.
    pub fn remove_counter(&mut self, counter: Counter) -> Result<(), TpmError> {
        let response = self.execute(&counter.remove())?;
        match tpm::done(&response) {
            Err(ResponseError::Refused(code)) if code.is_wrong_handle() => Ok(()),
            done => done.map_err(|error| TpmError::of_response("TPM2_NV_UndefineSpace", error)),
        }
    }

    /// For how many milliseconds the TPM has had power since it was cleared last.
    ///
    /// # Errors
    /// When the TPM does not say.
    pub fn clock(&mut self) -> Result<u64, TpmError> {
        let response = self.execute(&tpm::read_clock())?;
        tpm::clock(&response).map_err(|error| TpmError::of_response("TPM2_ReadClock", error))
    }

    /// Seals at most 128 octets, which are encrypted on their way.
    ///
    /// # Errors
    /// When the TPM refuses, or is not the one of the storage root key.
    pub fn seal(
        &mut self,
        seal: &Seal<'_>,
        secret: &SecretBytes,
    ) -> Result<SealedObject, TpmError> {
        self.and_flush(|tpm| {
            let (root, handle) = tpm.storage_root_key()?;
            if root != *seal.storage_root_key {
                return Err(TpmError::OtherStorageRootKey);
            }
            let random = &mut System::new();
            let (starting, command) = StartingSealingSession::start(&root, handle, random)?;
            let session = starting.started(&tpm.execute(&command)?);
            let session =
                session.map_err(|error| TpmError::of_use("TPM2_StartAuthSession", error))?;
            let policy = seal.counter.policy(seal.pcr_policy, seal.value);
            let (awaiting, command) = session.create((&root, handle), secret, &policy, random)?;
            let sealed = awaiting.receive(&tpm.execute(&command)?);
            sealed.map_err(|error| TpmError::of_use("TPM2_Create", error))
        })
    }

    /// Opens what was sealed. It is encrypted on its way.
    ///
    /// # Errors
    /// [`TpmError::CounterChanged`] when the counter has another value, [`KeyUseError::PcrsChanged`] when PCRs have, and
    /// [`TpmError::OtherStorageRootKey`] when the TPM is another, or was cleared.
    pub fn unseal(
        &mut self,
        seal: &Seal<'_>,
        object: &SealedObject,
    ) -> Result<SecretBytes, TpmError> {
        self.and_flush(|tpm| {
            let (root, parent) = tpm.storage_root_key()?;
            if root != *seal.storage_root_key {
                return Err(TpmError::OtherStorageRootKey);
            }
            let response = tpm.execute(&tpm::load_sealed(parent, object))?;
            let handle = tpm::sealed_loaded(&response, object)
                .map_err(|error| TpmError::of_response("TPM2_Load", error))?;
            let session = tpm.policy_session(&root, parent, seal.pcrs)?;
            let response = tpm.execute(&session.policy_nv(seal.counter, seal.value))?;
            tpm::done(&response).map_err(|error| match error {
                ResponseError::Refused(code) if code.is_policy() => TpmError::CounterChanged,
                error => TpmError::of_response("TPM2_PolicyNV", error),
            })?;
            let random = &mut System::new();
            let (awaiting, command) = session.unseal(handle, &object.name(), random)?;
            let opened = awaiting.receive(&tpm.execute(&command)?);
            opened.map_err(|error: KeyUseError| TpmError::of_use("TPM2_Unseal", error))
        })
    }
}
