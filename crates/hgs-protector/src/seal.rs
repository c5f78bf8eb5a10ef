//! What create, grant, revoke and roll have in common: vouching for guardians, and closing a protector.

use hgs_crypto::Random;
use hgs_crypto::hash::{Sha256Digest, sha256};
use hgs_pki::Certificate;

use crate::form::Signature;
use crate::protector::{Contents, MAX_WRAPPINGS};
use crate::step::Signed;
use crate::transport_key::Mac;
use crate::{
    GuardianCertificates, NeedsSign, ProtectorDigest, SealError, Step, TransportKey,
    VerifiedProtector, Wrapping, WrappingId, write,
};

/// A computation up to its next step.
pub(crate) type Next<T> = Result<Step<T, SealError>, SealError>;

/// Has the key of `signer` sign the certificate `subject`, and goes on with that signature.
pub(crate) fn endorse<T>(
    signer: Certificate,
    subject: &Certificate,
    next: impl FnOnce(Signature) -> Next<T> + Send + 'static,
) -> Step<T, SealError> {
    Step::NeedsSign(NeedsSign::new(
        signer.thumbprint(),
        subject.der().to_vec(),
        move |signed, _: &mut dyn Random| next(verified(signed, &signer)?.signature),
    ))
}

/// A message, its digest and its signature, if that is by `signer`. A key store that answers with anything else would
/// cost the virtual machine.
pub(crate) fn verified(signed: Signed, signer: &Certificate) -> Result<Verified, SealError> {
    let Signed { message, signature } = signed;
    let signature = Signature::written(signature);
    let digest = sha256(&message);
    signer
        .public_key()
        .verify_digest(signature.scheme, &digest, &signature.value)
        .map_err(|_| SealError::Signature {
            certificate: signer.thumbprint(),
        })?;
    Ok(Verified {
        message,
        digest,
        signature,
    })
}

pub(crate) struct Verified {
    pub(crate) message: Vec<u8>,
    digest: Sha256Digest,
    pub(crate) signature: Signature,
}

/// A protector in the making. Its chain holds: wrappings are taken from a verified one, or vouched for here.
pub(crate) struct Unsealed {
    /// One of them is the owner's.
    pub(crate) wrappings: Vec<Wrapping>,
    pub(crate) max_offline_unwraps: u32,
}

impl Unsealed {
    /// Appends a wrapping of `key` for `guardian`, for whom the key of the wrapping `parent` vouches.
    pub(crate) fn append<T>(
        mut self,
        parent: WrappingId,
        guardian: GuardianCertificates,
        key: TransportKey,
        next: impl FnOnce(Self, TransportKey) -> Next<T> + Send + 'static,
    ) -> Next<T> {
        let signer = self.signing_certificate(parent)?.clone();
        let subject = guardian.signing_certificate().clone();
        self.free_place(&guardian)?;
        Ok(endorse(signer, &subject, move |signature| {
            self.append_endorsed(parent, &guardian, signature, &key)?;
            next(self, key)
        }))
    }

    /// As [`Self::append`], with the signature over the guardian's signing certificate made already. Returns the Id.
    pub(crate) fn append_endorsed(
        &mut self,
        parent: WrappingId,
        guardian: &GuardianCertificates,
        signature: Signature,
        key: &TransportKey,
    ) -> Result<WrappingId, SealError> {
        let id = self.free_place(guardian)?;
        let wrapping = Wrapping::for_guardian(id, parent, guardian, signature, key.secret())?;
        self.wrappings.push(wrapping);
        Ok(id)
    }

    /// Closes the protector: canonical form, MAC under `key`, signature by the wrapping `guardian`, document.
    pub(crate) fn seal<T>(
        self,
        guardian: WrappingId,
        key: &TransportKey,
        finish: impl FnOnce(VerifiedProtector) -> T + Send + 'static,
    ) -> Next<T> {
        let signer = self.signing_certificate(guardian)?.clone();
        let signed = write::wrappings(&self.wrappings);
        let mac = key.mac(&signed)?;
        Ok(Step::NeedsSign(NeedsSign::new(
            signer.thumbprint(),
            signed,
            move |signed, _: &mut dyn Random| {
                let closing = Closing {
                    mac,
                    guardian,
                    signed: verified(signed, &signer)?,
                };
                Ok(Step::Done(finish(closing.protector(self))))
            },
        )))
    }

    /// The Id of a wrapping to be appended: the highest one and 1.
    fn free_place(&self, guardian: &GuardianCertificates) -> Result<WrappingId, SealError> {
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

/// What closes a protector, beside its wrappings.
struct Closing {
    mac: Mac,
    guardian: WrappingId,
    signed: Verified,
}

impl Closing {
    fn protector(self, unsealed: Unsealed) -> VerifiedProtector {
        let Verified {
            message: signed,
            digest,
            signature,
        } = self.signed;
        let limit = unsealed.max_offline_unwraps;
        VerifiedProtector::vouched(Contents {
            octets: write::protector(&signed, &self.mac, self.guardian, &signature, limit),
            digest: ProtectorDigest::from_bytes(digest),
            signed,
            wrappings: unsealed.wrappings,
            mac: self.mac,
            guardian: self.guardian,
            guardian_signature: signature,
            max_offline_unwraps: limit,
        })
    }
}
