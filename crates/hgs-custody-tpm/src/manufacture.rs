//! What the maker of a TPM does with it. The TPM is a VM's, in software, and nothing has set passwords in it yet.

use hgs_pki::endorsement::TpmModel;
use hgs_tcg::tpm::manufacture::{
    ECC_EK_CERTIFICATE_INDEX, ECC_EK_HANDLE, EK_HANDLE, EccEndorsementKey, FIRMWARE_VERSION,
    MANUFACTURER, allocate_sha256_bank, bank_is_allocated, change_endorsement_seed,
    create_ecc_endorsement_key, created_ecc_endorsement_key, persist, remove_index, shut_down,
    start_up, write_certificate,
};
use hgs_tcg::tpm::{
    Command, EK_CERTIFICATE_INDEX, EndorsementKey, Handle, Primary, ResponseError, created_primary,
    done, get_property, property,
};

use crate::{Tpm, TpmError};

/// The endorsement keys of a TPM that its maker has just made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndorsementKeys {
    /// With RSA-2048, at 0x81010001.
    pub rsa: EndorsementKey,
    /// On P-384, at 0x81010016.
    pub ecc: EccEndorsementKey,
}

/// Which endorsement key a certificate is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndorsementKeyKind {
    /// With RSA-2048.
    Rsa,
    /// On P-384.
    Ecc,
}

impl EndorsementKeyKind {
    fn index(self) -> u32 {
        match self {
            Self::Rsa => EK_CERTIFICATE_INDEX,
            Self::Ecc => ECC_EK_CERTIFICATE_INDEX,
        }
    }
}

impl Tpm {
    /// TPM2_Startup as at power-on, which firmware does where there is one.
    ///
    /// # Errors
    /// When the TPM has been started up, or refuses.
    pub fn start_up(&mut self) -> Result<(), TpmError> {
        self.order("TPM2_Startup", &start_up())
    }

    /// TPM2_Shutdown: the TPM writes what it has not written yet.
    ///
    /// # Errors
    /// When the TPM refuses.
    pub fn shut_down(&mut self) -> Result<(), TpmError> {
        self.order("TPM2_Shutdown", &shut_down())
    }

    /// From the next start on, PCRs have the bank of SHA-256 alone.
    ///
    /// # Errors
    /// When the TPM refuses, or has no such bank.
    pub fn allocate_sha256_bank(&mut self) -> Result<(), TpmError> {
        let response = self.execute(&allocate_sha256_bank())?;
        let allocated = bank_is_allocated(&response);
        match allocated.map_err(|error| TpmError::of_response("TPM2_PCR_Allocate", error))? {
            true => Ok(()),
            false => Err(TpmError::NoSha256Bank),
        }
    }

    /// What the TPM says about its manufacturer and its version, as EK certificates have it, for a TPM of `model`.
    ///
    /// # Errors
    /// When the TPM does not say.
    pub fn model(&mut self, model: &str) -> Result<TpmModel, TpmError> {
        let mut ask = |which| {
            let response = self.execute(&get_property(which))?;
            let value = property(&response, which)
                .map_err(|error| TpmError::of_response("TPM2_GetCapability", error))?;
            Ok::<_, TpmError>(Some(format!("id:{value:08X}")))
        };
        Ok(TpmModel {
            manufacturer: ask(MANUFACTURER)?,
            model: Some(model.to_owned()),
            version: ask(FIRMWARE_VERSION)?,
        })
    }

    /// Gives the TPM a new seed for endorsement keys. The present ones are gone, what the owner's hierarchy holds stays, and
    /// certificates in NV memory are wrong until they are replaced.
    ///
    /// # Errors
    /// When the TPM refuses, as when firmware has set a password for the platform.
    pub fn change_endorsement_seed(&mut self) -> Result<(), TpmError> {
        self.order("TPM2_ChangeEPS", &change_endorsement_seed())
    }

    /// Makes both endorsement keys and keeps them in the TPM.
    ///
    /// # Errors
    /// When the TPM refuses, as when it keeps such keys already.
    pub fn make_endorsement_keys(&mut self) -> Result<EndorsementKeys, TpmError> {
        let create = Command::CreatePrimary(Primary::EndorsementKey);
        let response = self.execute(&create.octets())?;
        let created = created_primary(&response)
            .map_err(|error| TpmError::of_response(create.name(), error))?;
        let rsa = EndorsementKey::parse(created.public.octets());
        let rsa = rsa.map_err(|error| TpmError::Key {
            key: "the endorsement key",
            error,
        })?;
        self.keep(created.handle, EK_HANDLE)?;
        let response = self.execute(&create_ecc_endorsement_key())?;
        let ecc = created_ecc_endorsement_key(&response)
            .map_err(|error| TpmError::of_response(create.name(), error))?;
        self.keep(ecc.handle, ECC_EK_HANDLE)?;
        Ok(EndorsementKeys { rsa, ecc })
    }

    fn keep(&mut self, loaded: Handle, persistent: u32) -> Result<(), TpmError> {
        self.order("TPM2_EvictControl", &persist(loaded, persistent))?;
        self.flush(loaded)
    }

    /// Writes the certificate of an endorsement key where TCG says, in the place of one that is there, and locks it.
    ///
    /// # Errors
    /// When the TPM refuses, as when firmware has set a password for the platform.
    pub fn write_endorsement_certificate(
        &mut self,
        kind: EndorsementKeyKind,
        certificate: &[u8],
    ) -> Result<(), TpmError> {
        let index = kind.index();
        let response = self.execute(&remove_index(index))?;
        match done(&response) {
            Err(ResponseError::Refused(code)) if code.is_wrong_handle() => {}
            removed => {
                removed.map_err(|error| TpmError::of_response("TPM2_NV_UndefineSpace", error))?;
            }
        }
        for (name, command) in write_certificate(index, certificate) {
            self.order(name, &command)?;
        }
        Ok(())
    }

    fn order(&mut self, name: &'static str, command: &[u8]) -> Result<(), TpmError> {
        let response = self.execute(command)?;
        done(&response).map_err(|error| TpmError::of_response(name, error))
    }
}
