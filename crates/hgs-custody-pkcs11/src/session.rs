//! One session of a token, and the calls that are made in it.

use cryptoki::context::Pkcs11;
use cryptoki::error::{Error, RvError};
use cryptoki::mechanism::rsa::{PkcsMgfType, PkcsOaepParams, PkcsOaepSource, PkcsPssParams};
use cryptoki::mechanism::{Mechanism, MechanismType};
use cryptoki::object::{Attribute, AttributeType, ObjectClass, ObjectHandle};
use cryptoki::session::Session;
use cryptoki::slot::Slot;
use hgs_crypto::hash::sha256;
use hgs_crypto::rsa::{OaepHash, PublicKey, SignatureScheme, decode_oaep};
use hgs_crypto::{CryptoError, SecretBytes};

use crate::search::KeyName;
use crate::{Code, OaepPlace, TokenError};

/// DigestInfo [RFC 8017 appendix A.2.4] of SHA-256, up to the digest.
const SHA256_DIGEST_INFO: &[u8] =
    b"\x30\x31\x30\x0d\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x01\x05\x00\x04\x20";

/// A logged-in session and where it belongs.
#[derive(Debug)]
pub(crate) struct TokenSession {
    pub(crate) context: Pkcs11,
    pub(crate) slot: Slot,
    pub(crate) session: Session,
    /// Which initialisation of the module it belongs to; handles of objects live no longer.
    pub(crate) initialisation: u64,
}

/// Who hashes what is signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hashing {
    /// This process.
    Host,
    /// The token.
    Token,
}

impl TokenSession {
    /// Takes another session: after an error, an operation may still be under way in the old one.
    pub(crate) fn renew(&mut self) -> Result<(), TokenError> {
        // The new one first, because a token logs out with its last session.
        match self.context.open_ro_session(self.slot) {
            Ok(session) => self.session = session,
            // There is no room for two: the old one may do.
            Err(Error::Pkcs11(RvError::SessionCount, _)) => {}
            Err(error) => return Err(lost(&error)),
        }
        Ok(())
    }

    pub(crate) fn find(
        &self,
        class: ObjectClass,
        name: &KeyName,
    ) -> Result<Vec<ObjectHandle>, Error> {
        self.session.find_objects(&name.template(class))
    }

    pub(crate) fn attributes(
        &self,
        object: ObjectHandle,
        types: &[AttributeType],
    ) -> Result<Vec<Attribute>, Error> {
        self.session.get_attributes(object, types)
    }

    /// Whether the token says that it decrypts, and signs, with a mechanism.
    pub(crate) fn offers(&self, mechanism: MechanismType) -> Result<(bool, bool), Error> {
        match self.context.get_mechanism_info(self.slot, mechanism) {
            Ok(info) => Ok((info.decrypt(), info.sign())),
            Err(error) if class_of(&error) == ErrorClass::Unsupported => Ok((false, false)),
            Err(error) => Err(error),
        }
    }

    /// Decrypts OAEP with an empty label, in the token or with its raw RSA.
    pub(crate) fn decrypt(
        &self,
        key: ObjectHandle,
        place: OaepPlace,
        hash: OaepHash,
        ciphertext: &[u8],
    ) -> Result<Result<SecretBytes, CryptoError>, Error> {
        if place == OaepPlace::Token {
            let mechanism = Mechanism::RsaPkcsOaep(oaep_parameters(hash));
            let plaintext = self.session.decrypt(&mechanism, key, ciphertext)?;
            return Ok(Ok(SecretBytes::new(plaintext)));
        }
        let raw = SecretBytes::new(self.session.decrypt(&Mechanism::RsaX509, key, ciphertext)?);
        Ok(decode_oaep(hash, &padded(raw, ciphertext.len())))
    }

    pub(crate) fn sign(
        &self,
        key: ObjectHandle,
        hashing: Hashing,
        scheme: SignatureScheme,
        message: &[u8],
    ) -> Result<Vec<u8>, Error> {
        let pss = PkcsPssParams {
            hash_alg: MechanismType::SHA256,
            mgf: PkcsMgfType::MGF1_SHA256,
            s_len: 32.into(),
        };
        let digest = sha256(message);
        let in_digest_info = [SHA256_DIGEST_INFO, &digest].concat();
        let (mechanism, input) = match (scheme, hashing) {
            (SignatureScheme::Pkcs1Sha256, Hashing::Host) => {
                (Mechanism::RsaPkcs, in_digest_info.as_slice())
            }
            (SignatureScheme::Pkcs1Sha256, Hashing::Token) => (Mechanism::Sha256RsaPkcs, message),
            (SignatureScheme::PssSha256, Hashing::Host) => {
                (Mechanism::RsaPkcsPss(pss), digest.as_slice())
            }
            (SignatureScheme::PssSha256, Hashing::Token) => {
                (Mechanism::Sha256RsaPkcsPss(pss), message)
            }
        };
        self.session.sign(&mechanism, key, input)
    }

    /// Modulus and exponent, from the private key or from the public key of the same identifier.
    pub(crate) fn public_half(
        &self,
        private: ObjectHandle,
        name: &KeyName,
    ) -> Result<Option<PublicKey>, TokenError> {
        let read = |object| self.numbers(object).map_err(|error| lost(&error));
        let mut numbers = read(private)?;
        if numbers.is_none() {
            let found = self.find(ObjectClass::PUBLIC_KEY, name);
            if let [public] = found.map_err(|error| lost(&error))?[..] {
                numbers = read(public)?;
            }
        }
        let key = numbers.map(|(modulus, exponent)| PublicKey::from_numbers(&modulus, &exponent));
        Ok(key.transpose()?)
    }

    fn numbers(&self, object: ObjectHandle) -> Result<Option<Numbers>, Error> {
        let types = [AttributeType::Modulus, AttributeType::PublicExponent];
        let (mut modulus, mut exponent) = (None, None);
        for attribute in self.attributes(object, &types)? {
            match attribute {
                Attribute::Modulus(number) => modulus = Some(number),
                Attribute::PublicExponent(number) => exponent = Some(number),
                _ => {}
            }
        }
        let numbers = modulus.zip(exponent);
        Ok(numbers.filter(|(modulus, exponent)| !modulus.is_empty() && !exponent.is_empty()))
    }
}

/// Modulus and exponent, big-endian.
type Numbers = (Vec<u8>, Vec<u8>);

fn oaep_parameters(hash: OaepHash) -> PkcsOaepParams<'static> {
    let (hash, mask) = match hash {
        OaepHash::Sha1 => (MechanismType::SHA1, PkcsMgfType::MGF1_SHA1),
        OaepHash::Sha256 => (MechanismType::SHA256, PkcsMgfType::MGF1_SHA256),
    };
    PkcsOaepParams::new(hash, mask, PkcsOaepSource::empty())
}

/// Some tokens leave the leading zeros of a number away, against PKCS#11 [section 2.1.4].
fn padded(raw: SecretBytes, length: usize) -> SecretBytes {
    let missing = length.saturating_sub(raw.len());
    if missing == 0 {
        return raw;
    }
    let mut octets = vec![0; missing];
    octets.reserve_exact(raw.len());
    octets.extend_from_slice(raw.expose());
    SecretBytes::new(octets)
}

/// What an error says about the token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ErrorClass {
    /// It is there and can't do this.
    Unsupported,
    /// It refuses the PIN; trying again may lock it.
    Pin,
    /// The object or the session is not there any more.
    Handle,
    /// The input was bad, or the token is broken: modules use the same codes for both.
    Doubtful,
    /// It is broken or away.
    Lost,
}

pub(crate) fn class_of(error: &Error) -> ErrorClass {
    let Error::Pkcs11(code, _) = error else {
        return match error {
            Error::NotSupported | Error::NullFunctionPointer => ErrorClass::Unsupported,
            _ => ErrorClass::Doubtful,
        };
    };
    match code {
        RvError::MechanismInvalid
        | RvError::MechanismParamInvalid
        | RvError::FunctionNotSupported
        | RvError::KeyFunctionNotPermitted
        | RvError::KeyTypeInconsistent
        | RvError::KeySizeRange
        | RvError::ActionProhibited
        | RvError::TemplateInconsistent
        | RvError::AttributeValueInvalid => ErrorClass::Unsupported,
        RvError::PinIncorrect
        | RvError::PinInvalid
        | RvError::PinLenRange
        | RvError::PinExpired
        | RvError::PinLocked
        | RvError::UserPinNotInitialized => ErrorClass::Pin,
        RvError::ObjectHandleInvalid | RvError::KeyHandleInvalid => ErrorClass::Handle,
        RvError::GeneralError
        | RvError::FunctionFailed
        | RvError::FunctionRejected
        | RvError::ArgumentsBad
        | RvError::BufferTooSmall
        | RvError::DataInvalid
        | RvError::DataLenRange
        | RvError::EncryptedDataInvalid
        | RvError::EncryptedDataLenRange
        | RvError::OperationActive
        | RvError::OperationNotInitialized
        | RvError::VendorDefined(_)
        | RvError::UnknownErrorCode(_) => ErrorClass::Doubtful,
        _ => ErrorClass::Lost,
    }
}

pub(crate) fn lost(error: &Error) -> TokenError {
    TokenError::Lost {
        code: Code::from(error),
    }
}

#[cfg(test)]
mod tests {
    use cryptoki::context::Function;

    use super::*;

    #[test]
    fn codes_mean_what_the_standard_says() {
        for (code, expected) in [
            (RvError::DeviceRemoved, ErrorClass::Lost),
            (RvError::DeviceError, ErrorClass::Lost),
            (RvError::TokenNotPresent, ErrorClass::Lost),
            (RvError::SessionHandleInvalid, ErrorClass::Lost),
            (RvError::SessionClosed, ErrorClass::Lost),
            (RvError::UserNotLoggedIn, ErrorClass::Lost),
            (RvError::CryptokiNotInitialized, ErrorClass::Lost),
            (RvError::HostMemory, ErrorClass::Lost),
            (RvError::ObjectHandleInvalid, ErrorClass::Handle),
            (RvError::KeyHandleInvalid, ErrorClass::Handle),
            (RvError::GeneralError, ErrorClass::Doubtful),
            (RvError::EncryptedDataInvalid, ErrorClass::Doubtful),
            (RvError::VendorDefined(0x8000_0000), ErrorClass::Doubtful),
            (RvError::MechanismInvalid, ErrorClass::Unsupported),
            (RvError::KeyFunctionNotPermitted, ErrorClass::Unsupported),
            (RvError::PinIncorrect, ErrorClass::Pin),
            (RvError::PinLocked, ErrorClass::Pin),
        ] {
            let error = Error::Pkcs11(code, Function::Decrypt);
            assert_eq!(class_of(&error), expected, "{code:?}");
        }
    }

    /// RFC 8017 appendix A.2.4 has these octets, and the key's public half has its own copy.
    #[test]
    fn digest_info_is_what_verifiers_expect() {
        assert_eq!(SHA256_DIGEST_INFO.len(), 19);
        assert_eq!(SHA256_DIGEST_INFO.last(), Some(&32));
    }

    #[test]
    fn zeros_that_a_token_leaves_away_come_back() {
        let raw = SecretBytes::from([7, 8].as_slice());
        assert_eq!(padded(raw.clone(), 4), SecretBytes::new(vec![0, 0, 7, 8]));
        assert_eq!(padded(raw.clone(), 2), raw);
    }
}
