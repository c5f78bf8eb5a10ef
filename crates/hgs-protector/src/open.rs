//! Opening a protector with the keys of a guardian.

use std::vec;

use hgs_crypto::{Random, SecretBytes};
use hgs_pki::Thumbprint;

use crate::{
    CannotOpen, DecryptionRefused, NeedsDecrypt, OpenError, Step, TransportKey, VerifiedProtector,
    Wrapping,
};

/// Decryptions that are tried for one protector: each costs an RSA operation, and whoever made the protector chose how
/// many wrappings it has.
pub const MAX_DECRYPTIONS: usize = 4;

/// A guardian whose private keys are at hand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeldPair {
    /// The signing certificate.
    pub signing: Thumbprint,
    /// The encryption certificate.
    pub encryption: Thumbprint,
    /// Whether this is the head of its lineage, which is tried first.
    pub head: bool,
}

/// A protector that was opened, by which wrapping, and what was in it.
#[derive(Debug)]
pub struct Opened {
    protector: VerifiedProtector,
    /// The place of the wrapping.
    wrapping: usize,
    transport_key: TransportKey,
}

/// Opens a protector with one of the pairs that are `held`: heads first, then in the order of the document, at most
/// [`MAX_DECRYPTIONS`]. A wrapping opens it when what is decrypted is a key under which the MAC holds.
///
/// # Errors
/// [`OpenError::NoWrapping`] at once; [`OpenError::CannotOpen`] after the last decryption, whatever failed.
pub fn open(
    protector: &VerifiedProtector,
    held: &[HeldPair],
) -> Result<Step<Opened, OpenError>, OpenError> {
    let candidates = candidates(protector.wrappings(), held);
    if candidates.is_empty() {
        return Err(OpenError::NoWrapping);
    }
    try_next(protector.clone(), candidates.into_iter())
}

/// The places of the wrappings to try, in order.
fn candidates(wrappings: &[Wrapping], held: &[HeldPair]) -> Vec<usize> {
    let mut found: Vec<(bool, usize)> = wrappings
        .iter()
        .enumerate()
        .filter_map(|(place, wrapping)| {
            let pair = held.iter().find(|pair| {
                pair.signing == wrapping.signing_certificate().thumbprint()
                    && pair.encryption == wrapping.encryption_certificate().thumbprint()
            })?;
            Some((!pair.head, place))
        })
        .collect();
    found.sort_unstable();
    found
        .into_iter()
        .map(|(_, place)| place)
        .take(MAX_DECRYPTIONS)
        .collect()
}

fn try_next(
    protector: VerifiedProtector,
    mut candidates: vec::IntoIter<usize>,
) -> Result<Step<Opened, OpenError>, OpenError> {
    let Some(place) = candidates.next() else {
        return Err(CannotOpen.into());
    };
    let wrapping = &protector.wrappings()[place];
    let key = wrapping.encryption_certificate().thumbprint();
    let encrypted = wrapping.transport_key().clone();
    Ok(Step::NeedsDecrypt(NeedsDecrypt::new(
        key,
        encrypted.encryption.hash(),
        encrypted.ciphertext,
        move |plaintext, _: &mut dyn Random| match recover(&protector, plaintext) {
            Some(transport_key) => Ok(Step::Done(Opened {
                protector,
                wrapping: place,
                transport_key,
            })),
            None => try_next(protector, candidates),
        },
    )))
}

/// The transport key, if that is what was decrypted.
///
/// Whoever attests can make a protector of any ciphertext for our key, and measure how long we take to refuse it.
/// So a decryption that failed is followed by the same work as one that gave a wrong key (attacks.md K17).
fn recover(
    protector: &VerifiedProtector,
    plaintext: Result<SecretBytes, DecryptionRefused>,
) -> Option<TransportKey> {
    let decrypted = plaintext.ok().and_then(TransportKey::from_secret);
    let was_decrypted = decrypted.is_some();
    let key = decrypted.unwrap_or_else(TransportKey::zero);
    let holds = protector.check_transport_key(&key).is_ok();
    (was_decrypted & holds).then_some(key)
}

impl Opened {
    /// The protector.
    #[must_use]
    pub fn protector(&self) -> &VerifiedProtector {
        &self.protector
    }

    /// The wrapping that opened it.
    #[must_use]
    pub fn wrapping(&self) -> &Wrapping {
        &self.protector.wrappings()[self.wrapping]
    }

    /// What was in it.
    #[must_use]
    pub fn transport_key(&self) -> &TransportKey {
        &self.transport_key
    }

    /// What was in it.
    #[must_use]
    pub fn into_transport_key(self) -> TransportKey {
        self.transport_key
    }
}
