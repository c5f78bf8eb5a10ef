//! The common part of create, grant, revoke and roll: sealing a protector.

use hgs_crypto::hash::sha256;
use hgs_pki::{Certificate, KeyWork};

use crate::contents::{Contents, MAX_KEY_BITS, MAX_PROTECTOR_OCTETS, MAX_WRAPPINGS};
use crate::form::Signature;
use crate::sign::{endorse, sign};
use crate::{
    GuardianCertificates, ProtectorDigest, SealError, TransportKey, VerifiedProtector, Wrapping,
    WrappingId, write,
};

/// A protector in the making. Its chain holds: wrappings are taken from a verified one, or signed here.
pub(crate) struct Unsealed {
    /// One of them is the owner's.
    pub(crate) wrappings: Vec<Wrapping>,
    pub(crate) max_offline_unwraps: u32,
}

impl Unsealed {
    /// Appends a wrapping of `key` for `guardian`, signed by the key of the wrapping `parent`.
    pub(crate) fn append(
        &mut self,
        parent: WrappingId,
        guardian: &GuardianCertificates,
        key: &TransportKey,
        keys: &mut dyn KeyWork,
    ) -> Result<(), SealError> {
        let id = self.free_id(guardian)?;
        let signer = self.signing_certificate(parent)?;
        let endorsement = endorse(guardian.signing_certificate(), signer, keys)?;
        let wrapping = Wrapping::for_guardian(id, parent, guardian, endorsement, key.secret())?;
        self.wrappings.push(wrapping);
        Ok(())
    }

    /// As [`Self::append`], with a signature over the guardian's signing certificate that was made before. Returns the Id.
    pub(crate) fn append_endorsed(
        &mut self,
        parent: WrappingId,
        guardian: &GuardianCertificates,
        endorsement: Signature,
        key: &TransportKey,
    ) -> Result<WrappingId, SealError> {
        let id = self.free_id(guardian)?;
        let signer = self.signing_certificate(parent)?;
        endorsement.verify_ours(guardian.signing_certificate(), signer)?;
        let wrapping = Wrapping::for_guardian(id, parent, guardian, endorsement, key.secret())?;
        self.wrappings.push(wrapping);
        Ok(id)
    }

    /// Closes the protector: canonical form, MAC under `key`, signature by the wrapping `guardian`, document.
    pub(crate) fn seal(
        self,
        guardian: WrappingId,
        key: &TransportKey,
        keys: &mut dyn KeyWork,
    ) -> Result<VerifiedProtector, SealError> {
        let key_bits = |wrapping: &Wrapping| {
            wrapping.signing_certificate().public_key().modulus_bits()
                + wrapping
                    .encryption_certificate()
                    .public_key()
                    .modulus_bits()
        };
        let found = self.wrappings.iter().map(key_bits).sum();
        if found > MAX_KEY_BITS {
            let limit = MAX_KEY_BITS;
            return Err(SealError::TooManyKeyBits { limit, found });
        }
        let signed = write::wrappings(&self.wrappings);
        let digest = sha256(&signed);
        let mac = key.mac(&signed)?;
        let signer = self.signing_certificate(guardian)?;
        let signature = sign(&signed, &digest, signer, keys)?;
        let unwraps = self.max_offline_unwraps;
        let octets = write::protector(&signed, &mac, guardian, &signature, unwraps);
        // A protector beyond the limits of its readers must not leave: the virtual machine would never start again.
        if octets.len() > MAX_PROTECTOR_OCTETS {
            return Err(SealError::TooLong {
                limit: MAX_PROTECTOR_OCTETS,
                found: octets.len(),
            });
        }
        Ok(VerifiedProtector::vouched(Contents {
            octets,
            digest: ProtectorDigest::from_bytes(digest),
            signed,
            wrappings: self.wrappings,
            mac,
            guardian,
            guardian_signature: signature,
            max_offline_unwraps: unwraps,
        }))
    }

    /// The Id of a wrapping to be appended: the highest one and 1.
    fn free_id(&self, guardian: &GuardianCertificates) -> Result<WrappingId, SealError> {
        self.refuse_duplicate(guardian)?;
        if self.wrappings.len() >= MAX_WRAPPINGS {
            return Err(SealError::TooManyWrappings {
                limit: MAX_WRAPPINGS,
            });
        }
        let highest = self.wrappings.iter().map(Wrapping::id).max();
        highest
            .map_or(0, WrappingId::number)
            .checked_add(1)
            .map(WrappingId::new)
            .ok_or(SealError::NoFreeId)
    }

    fn refuse_duplicate(&self, guardian: &GuardianCertificates) -> Result<(), SealError> {
        let duplicate = self.wrappings.iter().find(|wrapping| {
            wrapping.is_for(
                guardian.signing_certificate(),
                guardian.encryption_certificate(),
            )
        });
        match duplicate {
            None => Ok(()),
            Some(wrapping) => Err(SealError::DuplicateGuardian { id: wrapping.id() }),
        }
    }

    pub(crate) fn signing_certificate(&self, id: WrappingId) -> Result<&Certificate, SealError> {
        self.wrappings
            .iter()
            .find(|wrapping| wrapping.id() == id)
            .map(Wrapping::signing_certificate)
            .ok_or(SealError::NoSuchWrapping { id })
    }
}
