//! The certificates of a VM owner's for images: an authority for the EK certificates of vTPMs, and the keys of Secure Boot.

use hgs_crypto::hash::sha256;
use hgs_pki::issue::Template;
use hgs_pki::{Certificate, KeyWork, Time, Validity, profile};
use hgs_tcg::event_log::Guid;

use super::unified::Signer;
use super::variables::{SecureBootKeys, SecureBootRole};
use super::{Boot, ImageError, SecureBoot};
use crate::identity::{Authority, Identity, IdentityError, Subject};

/// The certificates for images of VMs. Their private keys are wherever the owner keeps them.
#[derive(Debug, Clone)]
pub struct ImageCertificates {
    endorsement_authority: Certificate,
    signature: Certificate,
    platform_key: Certificate,
    key_exchange_key: Certificate,
    owner: Guid,
}

impl ImageCertificates {
    /// What the certificates of an owner of this name say, in the order that [`Self::of`] takes.
    #[must_use]
    pub fn templates(name: &str, validity: Validity) -> [Template; 4] {
        let secure_boot = |role: SecureBootRole| role.template(name, validity);
        [
            profile::endorsement_authority(name, validity),
            secure_boot(SecureBootRole::PlatformKey),
            secure_boot(SecureBootRole::KeyExchangeKey),
            secure_boot(SecureBootRole::Signature),
        ]
    }

    /// Of these: authority, platform key, key-exchange key, signature.
    #[must_use]
    pub fn of(
        [
            endorsement_authority,
            platform_key,
            key_exchange_key,
            signature,
        ]: [Certificate; 4],
    ) -> Self {
        // Any GUID of one's own will do; this one stays the same as long as the platform key does.
        let mut owner = [0; 16];
        owner.copy_from_slice(&sha256(platform_key.der())[..16]);
        owner[7] = (owner[7] & 0x0f) | 0x80;
        owner[8] = (owner[8] & 0x3f) | 0x80;
        Self {
            endorsement_authority,
            signature,
            platform_key,
            key_exchange_key,
            owner: Guid::from_octets(owner),
        }
    }

    /// The start of a VM that these keys sign.
    #[must_use]
    pub fn boot<'a>(&'a self, keys: &'a mut dyn KeyWork) -> Boot<'a> {
        Boot::SecureBoot(SecureBoot {
            keys: self.secure_boot(),
            signer: Signer {
                certificate: &self.signature,
                keys,
            },
        })
    }

    /// Has `work` make the vTPM of the VM `name`, or another one of it, with EK certificates of the owner's authority.
    ///
    /// # Errors
    /// What `work` says.
    pub fn endorse(
        &self,
        keys: &mut dyn KeyWork,
        name: &str,
        now: Time,
        work: impl FnOnce(Subject<'_>, &mut Authority<'_>) -> Result<Identity, IdentityError>,
    ) -> Result<(), ImageError> {
        let mut authority = Authority {
            certificate: &self.endorsement_authority,
            keys,
        };
        work(Subject::for_life(name, now), &mut authority)?;
        Ok(())
    }

    /// The keys that the firmware gets.
    fn secure_boot(&self) -> SecureBootKeys<'_> {
        SecureBootKeys {
            owner: self.owner,
            platform_key: &self.platform_key,
            key_exchange_key: &self.key_exchange_key,
            signature: &self.signature,
        }
    }
}
