//! Generating keys in a token.

use cryptoki::error::Error;
use cryptoki::mechanism::Mechanism;
use cryptoki::object::{Attribute, ObjectClass};
use cryptoki::types::Ulong;
use hgs_crypto::rsa::{MAX_MODULUS_BITS, MIN_MODULUS_BITS, PublicKey, PublicKeyError};

use crate::search::KeyName;
use crate::session::{Meaning, Seat, lost, meaning};
use crate::{TokenError, Usage};

/// Generates a pair under `name`, for one usage: its private half never leaves the token, not even
/// under another key.
pub(crate) fn generate(
    seat: &Seat,
    name: &KeyName,
    bits: usize,
    usage: Usage,
) -> Result<PublicKey, TokenError> {
    if !(MIN_MODULUS_BITS..=MAX_MODULUS_BITS).contains(&bits) {
        return Err(PublicKeyError::ModulusBits(bits).into());
    }
    for class in [ObjectClass::PRIVATE_KEY, ObjectClass::PUBLIC_KEY] {
        let found = seat.find(class, name).map_err(|error| lost(&error))?;
        if !found.is_empty() {
            let wanted = name.to_string();
            return Err(TokenError::KeyExists { wanted });
        }
    }
    // The login of the other sessions holds for this one too.
    let session = seat.context.open_rw_session(seat.slot);
    let session = session.map_err(|error| blame(&error))?;
    let bits = bits.try_into().map_err(|_| TokenError::Unsupported)?;
    let generated = session.generate_key_pair(
        &Mechanism::RsaPkcsKeyPairGen,
        &public_template(name, bits, usage),
        &private_template(name, usage),
    );
    let (_, private) = generated.map_err(|error| blame(&error))?;
    let public = seat.public_half(private, name)?;
    public.ok_or(TokenError::PublicHalfHidden)
}

fn public_template(name: &KeyName, bits: Ulong, usage: Usage) -> Vec<Attribute> {
    let mut template = vec![
        Attribute::Token(true),
        Attribute::Private(false),
        Attribute::ModulusBits(bits),
        Attribute::PublicExponent(vec![1, 0, 1]),
        Attribute::Verify(usage == Usage::Sign),
        Attribute::Encrypt(usage == Usage::Decrypt),
        Attribute::Wrap(false),
    ];
    template.extend(name.attributes());
    template
}

fn private_template(name: &KeyName, usage: Usage) -> Vec<Attribute> {
    let mut template = vec![
        Attribute::Token(true),
        Attribute::Private(true),
        Attribute::Sensitive(true),
        Attribute::Extractable(false),
        Attribute::Sign(usage == Usage::Sign),
        Attribute::Decrypt(usage == Usage::Decrypt),
        Attribute::Unwrap(false),
    ];
    template.extend(name.attributes());
    template
}

fn blame(error: &Error) -> TokenError {
    match meaning(error) {
        Meaning::Unsupported => TokenError::Unsupported,
        _ => lost(error),
    }
}
