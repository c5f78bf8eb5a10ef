//! Private keys, asked to do what the service asks of them.

use hgs_crypto::SecretBytes;
use hgs_crypto::random::System;
use hgs_crypto::rsa::SignatureScheme;
use hgs_custody::PrivateKey;
use hgs_pki::Certificate;
use hgs_trace::guardian::Work;
use hgs_trace::{Found, Problem};

use super::super::keys::KeyTable;
use super::super::proof::oaep_hash;

/// What a key is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Use {
    Decryption,
    Signing,
}

/// Has the key of `certificate` work.
pub(super) fn work(keys: &KeyTable, certificate: &Certificate, for_use: Use) -> Work {
    let key = match keys.find(&certificate.thumbprint()) {
        Ok(key) => key,
        Err(away) => {
            return Work {
                held: Err(Problem::of(&away)),
                belongs: None,
                decrypts: None,
                signs: None,
                tokens: Vec::new(),
            };
        }
    };
    let is_for = |wanted| for_use == wanted;
    Work {
        held: Ok(()),
        belongs: Some(key.public() == certificate.public_key()),
        decrypts: is_for(Use::Decryption).then(|| decrypts(key, certificate)),
        signs: is_for(Use::Signing).then(|| signs(key, certificate)),
        tokens: Vec::new(),
    }
}

/// Octets of what is encrypted and signed: as many as a transport key has.
const LENGTH: usize = 32;

fn decrypts(key: &dyn PrivateKey, certificate: &Certificate) -> Found<()> {
    let failed = |error: &dyn std::error::Error| Problem::of(error);
    let hash = oaep_hash(key).map_err(|error| failed(&error))?;
    let secret = SecretBytes::random(LENGTH, &mut System::new()).map_err(|error| failed(&error))?;
    let encrypted = certificate.public_key().encrypt_oaep(hash, &secret);
    let encrypted = encrypted.map_err(|error| failed(&error))?;
    let decrypted = key.decrypt(hash, &encrypted);
    match decrypted.map_err(|error| failed(&error))? == secret {
        true => Ok(()),
        false => Err(Problem::new("something else came back")),
    }
}

fn signs(key: &dyn PrivateKey, certificate: &Certificate) -> Found<()> {
    let failed = |error: &dyn std::error::Error| Problem::of(error);
    let scheme = SignatureScheme::Pkcs1Sha256;
    let message =
        SecretBytes::random(LENGTH, &mut System::new()).map_err(|error| failed(&error))?;
    let signature = key.sign(scheme, message.expose());
    let signature = signature.map_err(|error| failed(&error))?;
    let verified = certificate
        .public_key()
        .verify(scheme, message.expose(), &signature);
    verified.map_err(|_| Problem::new("the certificate does not verify the signature"))
}
