//! Generating keys in a token.

use cryptoki::error::{Error, RvError};
use cryptoki::mechanism::Mechanism;
use cryptoki::object::{Attribute, AttributeType, ObjectClass};
use cryptoki::session::Session;
use cryptoki::types::Ulong;
use hgs_crypto::rsa::{MAX_MODULUS_BITS, MIN_MODULUS_BITS, PublicKey, PublicKeyError};

use crate::search::KeyName;
use crate::session::{ErrorClass, TokenSession, class_of, lost};
use crate::{Code, TokenError, Usage};

/// Generates a pair under `name`, for one usage: its private half never leaves the token, not even
/// under another key.
pub(crate) fn generate(
    token_session: &TokenSession,
    name: &KeyName,
    bits: usize,
    usage: Usage,
) -> Result<PublicKey, TokenError> {
    if !(MIN_MODULUS_BITS..=MAX_MODULUS_BITS).contains(&bits) {
        return Err(PublicKeyError::ModulusBits(bits).into());
    }
    for class in [ObjectClass::PRIVATE_KEY, ObjectClass::PUBLIC_KEY] {
        let found = token_session
            .find(class, name)
            .map_err(|error| lost(&error))?;
        if !found.is_empty() {
            let wanted = name.to_string();
            return Err(TokenError::KeyExists { wanted });
        }
    }
    refuse_used_identifier(token_session, name)?;
    // The login of the other sessions holds for this one too.
    let session = token_session
        .context
        .open_rw_session(token_session.slot)
        .map_err(|error| blame(&error))?;
    let bits = bits.try_into().map_err(|_| TokenError::Unsupported)?;
    let mut refused = None;
    for strictness in TemplateStrictness::STEPS {
        let generated = session.generate_key_pair(
            &Mechanism::RsaPkcsKeyPairGen,
            &public_template(name, bits, usage, strictness),
            &private_template(name, usage, strictness),
        );
        match generated {
            Ok((_, private)) => {
                let public = token_session.public_half(private, name)?;
                return public.ok_or(TokenError::PublicHalfHidden);
            }
            Err(error) if is_about_template(&error) => {
                discard(token_session, &session, name);
                refused = Some(error);
            }
            Err(error) => return Err(blame(&error)),
        }
    }
    Err(match refused {
        Some(error) => TokenError::NotGenerated {
            code: Code::from(&error),
        },
        None => TokenError::Unsupported,
    })
}

fn refuse_used_identifier(token_session: &TokenSession, name: &KeyName) -> Result<(), TokenError> {
    let Some(identifier) = name.identifier() else {
        return Ok(());
    };
    let same = token_session.find(ObjectClass::PRIVATE_KEY, &identifier);
    let Some(other) = same.map_err(|error| lost(&error))?.first().copied() else {
        return Ok(());
    };
    let attributes = token_session.attributes(other, &[AttributeType::Label, AttributeType::Id]);
    Err(TokenError::IdentifierInUse {
        id: identifier.to_string(),
        present: KeyName::of_attributes(&attributes.map_err(|error| lost(&error))?).to_string(),
    })
}

/// What is asked of a new key beside its size: tokens in the field differ in what they let be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum TemplateStrictness {
    /// One usage, and each other one forbidden.
    Exactly,
    /// One usage; the token decides about the others.
    AtLeast,
    /// The token decides about the usages: some make keys for all of them and take no other word for it.
    Nothing,
}

/// Makes the attribute of one usage.
type UsageAttribute = fn(bool) -> Attribute;

impl TemplateStrictness {
    /// The strictest first. That a key is sensitive and never extractable is asked in all.
    const STEPS: [Self; 3] = [Self::Exactly, Self::AtLeast, Self::Nothing];

    /// The usages of one half as `(attribute, whether it is wanted)`, as far as they are asked.
    fn usages(self, usages: [(UsageAttribute, bool); 3]) -> Vec<Attribute> {
        let asked = usages.into_iter().filter(|(_, wanted)| match self {
            Self::Exactly => true,
            Self::AtLeast => *wanted,
            Self::Nothing => false,
        });
        asked.map(|(attribute, wanted)| attribute(wanted)).collect()
    }
}

/// Whether a token may say this to a template that it does not take. Some say no more than that they failed.
fn is_about_template(error: &Error) -> bool {
    let Error::Pkcs11(code, _) = error else {
        return false;
    };
    matches!(
        code,
        RvError::TemplateInconsistent
            | RvError::TemplateIncomplete
            | RvError::AttributeReadOnly
            | RvError::AttributeTypeInvalid
            | RvError::AttributeValueInvalid
            | RvError::ArgumentsBad
            | RvError::FunctionFailed
            | RvError::GeneralError
            | RvError::VendorDefined(_)
    )
}

/// Removes what a failed generation may have left: nothing had this name before it.
fn discard(token_session: &TokenSession, session: &Session, name: &KeyName) {
    for class in [ObjectClass::PRIVATE_KEY, ObjectClass::PUBLIC_KEY] {
        for object in token_session.find(class, name).unwrap_or_default() {
            // What can't be removed makes the next attempt say that the key exists.
            let _ = session.destroy_object(object);
        }
    }
}

fn public_template(
    name: &KeyName,
    bits: Ulong,
    usage: Usage,
    strictness: TemplateStrictness,
) -> Vec<Attribute> {
    let mut template = vec![
        Attribute::Token(true),
        Attribute::Private(false),
        Attribute::ModulusBits(bits),
        Attribute::PublicExponent(vec![1, 0, 1]),
    ];
    template.extend(strictness.usages([
        (Attribute::Verify, usage == Usage::Sign),
        (Attribute::Encrypt, usage == Usage::Decrypt),
        (Attribute::Wrap, false),
    ]));
    template.extend(name.attributes());
    template
}

fn private_template(
    name: &KeyName,
    usage: Usage,
    strictness: TemplateStrictness,
) -> Vec<Attribute> {
    let mut template = vec![
        Attribute::Token(true),
        Attribute::Private(true),
        Attribute::Sensitive(true),
        Attribute::Extractable(false),
    ];
    template.extend(strictness.usages([
        (Attribute::Sign, usage == Usage::Sign),
        (Attribute::Decrypt, usage == Usage::Decrypt),
        (Attribute::Unwrap, false),
    ]));
    template.extend(name.attributes());
    template
}

fn blame(error: &Error) -> TokenError {
    match class_of(error) {
        // The token is there and does not do this, for a reason that it names.
        ErrorClass::Unsupported | ErrorClass::Doubtful => TokenError::NotGenerated {
            code: Code::from(error),
        },
        _ => match error {
            Error::Pkcs11(
                RvError::TokenWriteProtected | RvError::DeviceMemory | RvError::SessionReadOnly,
                _,
            ) => TokenError::NotGenerated {
                code: Code::from(error),
            },
            _ => lost(error),
        },
    }
}
