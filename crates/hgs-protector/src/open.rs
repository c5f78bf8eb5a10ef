//! Opening a protector with the keys of a guardian.

use hgs_crypto::SecretBytes;
use hgs_pki::{KeyError, KeyWork, Thumbprint};

use crate::{CannotOpen, OpenError, TransportKey, VerifiedProtector, Wrapping};

/// Decryptions that are tried for one protector: each costs an RSA operation, and the maker of the protector chose how
/// many wrappings it has.
pub const MAX_DECRYPTIONS: usize = 4;

/// A guardian whose private keys are available.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeldPair {
    /// The signing certificate.
    pub signing: Thumbprint,
    /// The encryption certificate.
    pub encryption: Thumbprint,
    /// Whether this is the head of its lineage, which is tried first.
    pub head: bool,
}

/// An opened protector, the wrapping that opened it, and the transport key in it.
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
/// [`OpenError::NoWrapping`] at once; [`OpenError::Key`] when a key can't be used; [`OpenError::TransportKey`] when the
/// protector opens, and its key is not random; [`OpenError::CannotOpen`] after the last decryption, for each kind of
/// failure.
pub fn open(
    protector: &VerifiedProtector,
    held: &[HeldPair],
    keys: &mut dyn KeyWork,
) -> Result<Opened, OpenError> {
    let candidates = candidates(protector.wrappings(), held);
    if candidates.is_empty() {
        return Err(OpenError::NoWrapping);
    }
    for place in candidates {
        let wrapping = &protector.wrappings()[place];
        let certificate = wrapping.encryption_certificate().thumbprint();
        let encrypted = wrapping.transport_key();
        let decrypted = match keys.decrypt(
            &certificate,
            encrypted.encryption.hash(),
            &encrypted.ciphertext,
        ) {
            Ok(plaintext) => Some(plaintext),
            Err(KeyError::Refused) => None,
            Err(error) => return Err(OpenError::Key { certificate, error }),
        };
        if let Some(transport_key) = recover(protector, decrypted) {
            return Ok(Opened {
                protector: protector.clone(),
                wrapping: place,
                transport_key: transport_key.examined()?,
            });
        }
    }
    Err(CannotOpen.into())
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

/// The transport key, not yet examined, if the decrypted octets are one.
///
/// A host can make a protector of any ciphertext for our key, and measure how long we take to refuse it. So a
/// decryption that failed (`None`) is followed by the same work as one that gave a wrong key (attacks.md K17).
fn recover(protector: &VerifiedProtector, plaintext: Option<SecretBytes>) -> Option<TransportKey> {
    let decrypted = plaintext.and_then(|octets| TransportKey::unexamined(octets).ok());
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

    /// The transport key.
    #[must_use]
    pub fn transport_key(&self) -> &TransportKey {
        &self.transport_key
    }

    /// The transport key.
    #[must_use]
    pub fn into_transport_key(self) -> TransportKey {
        self.transport_key
    }
}
