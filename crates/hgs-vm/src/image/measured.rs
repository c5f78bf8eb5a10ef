//! What a guest's firmware measures into PCR 7, which the key of the disk is sealed to.

use std::path::Path;

use hgs_crypto::hash::{Sha256Digest, sha256, sha256_of};
use hgs_tcg::event_log::{Bank, EventLog, EventLogError, EventType, Guid, Limits};
use hgs_tcg::image::{PredictedEvent, VariableData, VariableDataError};

use super::ImageError;
use super::variables::{self, SecureBootKeys, VariableStoreError, measurements_of};
use crate::description::{Description, Firmware};

/// The digests that are extended into PCR 7, in their order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MeasuredBoot(Vec<Sha256Digest>);

impl MeasuredBoot {
    /// UEFI firmware with these Secure Boot keys, and an image that the key in db signed.
    ///
    /// # Errors
    /// When a certificate is too long.
    pub fn secure_boot(keys: &SecureBootKeys<'_>) -> Result<Self, VariableStoreError> {
        Ok(Self::of(&keys.measurements()?))
    }

    /// UEFI firmware without Secure Boot keys.
    ///
    /// # Errors
    /// None that can happen: the names are constant.
    pub fn without_secure_boot() -> Result<Self, VariableDataError> {
        let mut events =
            vec![VariableData::new(Guid::GLOBAL_VARIABLE, "SecureBoot", &[0])?.event()];
        for (vendor, name) in [
            (Guid::GLOBAL_VARIABLE, "PK"),
            (Guid::GLOBAL_VARIABLE, "KEK"),
            (Guid::IMAGE_SECURITY_DATABASE, "db"),
            (Guid::IMAGE_SECURITY_DATABASE, "dbx"),
        ] {
            events.push(VariableData::new(vendor, name, &[])?.event());
        }
        events.push(PredictedEvent::of(7, "separator", &[0; 4]));
        Ok(Self::of(&events))
    }

    /// SeaBIOS, which measures nothing into PCR 7 but the separator.
    #[must_use]
    pub fn bios() -> Self {
        Self(vec![sha256(&[0xff; 4])])
    }

    /// UEFI firmware with the Secure Boot keys in its store of variables.
    ///
    /// # Errors
    /// When it is no such store, or its keys don't determine what is measured.
    pub fn of_variables(store: &[u8]) -> Result<Self, VariableStoreError> {
        Ok(Self::of(&measurements_of(store)?))
    }

    /// What the next boot of a VM will measure, of which `folder` has the files.
    ///
    /// # Errors
    /// When its firmware's variables can't be read, or don't determine what is measured.
    pub fn of_vm(folder: &Path, description: &Description) -> Result<Self, ImageError> {
        Ok(match &description.firmware {
            Firmware::SecureBoot { variables } => {
                let store = hgs_files::read(&variables.within(folder)?, variables::LIMIT)?;
                Self::of_variables(&store)?
            }
            Firmware::DirectKernel(direct) => match direct.variables {
                None => Self::bios(),
                Some(_) => Self::without_secure_boot()
                    .map_err(|error| ImageError::Description(error.to_string()))?,
            },
        })
    }

    /// What the log of a boot says about PCR 7, up to where the guest's first file system extends it. Nobody vouches for the
    /// log: it is its owner who says that this boot was a good one.
    ///
    /// # Errors
    /// When it is no log.
    pub fn of_log(log: &[u8]) -> Result<Self, EventLogError> {
        let log = EventLog::read(log.to_vec(), &Limits::LOG)?;
        let events = log.unverified().events();
        let of_pcr_7 =
            events.filter(|event| event.pcr() == 7 && event.event_type() != EventType::NO_ACTION);
        let digests =
            of_pcr_7.filter_map(|event| event.digest(Bank::Sha256)?.as_bytes().try_into().ok());
        Ok(Self(digests.collect()))
    }

    fn of(events: &[PredictedEvent]) -> Self {
        Self(events.iter().map(|event| event.digest).collect())
    }

    /// The digests.
    #[must_use]
    pub fn digests(&self) -> &[Sha256Digest] {
        &self.0
    }

    /// The value of PCR 7 afterwards.
    #[must_use]
    pub fn pcr_7(&self) -> Sha256Digest {
        self.0.iter().fold([0; 32], |value, digest| {
            sha256_of(&[&value[..], &digest[..]])
        })
    }
}
