//! The certificates of a VM owner's for images: an authority for the EK certificates of vTPMs, and the keys of Secure Boot.

use hgs_crypto::hash::sha256;
use hgs_pki::issue::Template;
use hgs_pki::{Certificate, Validity, profile};
use hgs_tcg::event_log::Guid;

use super::variables::{SecureBootKeys, SecureBootRole};

/// The certificates for images of VMs. Their private keys are wherever the owner keeps them.
#[derive(Debug, Clone)]
pub struct ImageCertificates {
    /// Who issues EK certificates of vTPMs.
    pub endorsement_authority: Certificate,
    /// Whose signature starts in the VM: the one in db.
    pub signature: Certificate,
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

    /// The keys that the firmware gets.
    #[must_use]
    pub fn secure_boot(&self) -> SecureBootKeys<'_> {
        SecureBootKeys {
            owner: self.owner,
            platform_key: &self.platform_key,
            key_exchange_key: &self.key_exchange_key,
            signature: &self.signature,
        }
    }
}
