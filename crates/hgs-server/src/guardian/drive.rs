//! Does the private-key work that a suspended step asks for, where the key lives.

use hgs_attest::issue::PreparedHealthCertificate;
use hgs_crypto::Random;
use hgs_crypto::rsa::SignatureScheme;
use hgs_custody::{KeyError, PrivateKey};
use hgs_kps::{DecryptionRefused, Step};
use hgs_pki::Thumbprint;
use tracing::error;

use super::keys::KeyTable;
use super::workers::Turn;

/// Why a step did not come to its end.
#[derive(Debug)]
pub(crate) enum Undone<E> {
    /// The computation refused.
    Refused(E),
    /// A key that it needs can't be used now, which was logged.
    KeyStore,
}

impl<E> From<KeyAway> for Undone<E> {
    fn from(_: KeyAway) -> Self {
        Self::KeyStore
    }
}

/// The place where a key lives is away. It was logged with its reason, which is nobody's business outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the private key of certificate {0} can't be used now")]
pub(crate) struct KeyAway(pub(crate) Thumbprint);

/// Drives `step` to its end. Software keys work in this thread's `turn`; for others it waits without one.
pub(crate) fn drive<T, E>(
    keys: &KeyTable,
    mut step: Step<T, E>,
    random: &mut dyn Random,
    turn: &mut Turn,
) -> Result<T, Undone<E>> {
    loop {
        step = match step {
            Step::Done(value) => return Ok(value),
            Step::NeedsDecrypt(request) => {
                let key = keys.find(request.key())?;
                let decrypted = work(key, turn, |key| {
                    key.decrypt(request.hash(), request.ciphertext())
                });
                let plaintext = match decrypted {
                    Ok(plaintext) => Ok(plaintext),
                    Err(KeyError::Refused) => Err(DecryptionRefused),
                    Err(failure) => return Err(away(request.key(), &failure).into()),
                };
                request.resume(plaintext, random).map_err(Undone::Refused)?
            }
            Step::NeedsSign(request) => {
                let signature = sign(
                    keys,
                    request.key(),
                    request.scheme(),
                    request.message(),
                    turn,
                )?;
                request.resume(signature, random).map_err(Undone::Refused)?
            }
        };
    }
}

/// The signature that a health certificate waits for.
pub(crate) fn sign_health_certificate(
    keys: &KeyTable,
    prepared: &PreparedHealthCertificate,
    turn: &mut Turn,
) -> Result<Vec<u8>, KeyAway> {
    sign(
        keys,
        &prepared.signer(),
        prepared.scheme(),
        prepared.to_be_signed(),
        turn,
    )
}

fn sign(
    keys: &KeyTable,
    certificate: &Thumbprint,
    scheme: SignatureScheme,
    message: &[u8],
    turn: &mut Turn,
) -> Result<Vec<u8>, KeyAway> {
    let signed = work(keys.find(certificate)?, turn, |key| {
        key.sign(scheme, message)
    });
    signed.map_err(|failure| away(certificate, &failure))
}

/// Has `key` do something, in this thread's turn or without it.
fn work<T>(key: &dyn PrivateKey, turn: &mut Turn, what: impl FnOnce(&dyn PrivateKey) -> T) -> T {
    if key.is_blocking() {
        turn.away(|| what(key))
    } else {
        what(key)
    }
}

fn away(certificate: &Thumbprint, failure: &KeyError) -> KeyAway {
    error!(%certificate, %failure, "a private key can't be used");
    KeyAway(*certificate)
}
