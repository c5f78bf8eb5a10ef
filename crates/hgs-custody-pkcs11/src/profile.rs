//! What a token can do with a key: by its own account, and then by trial.

use cryptoki::error::Error;
use cryptoki::mechanism::MechanismType;
use cryptoki::object::{Attribute, AttributeType, ObjectHandle};
use hgs_crypto::SecretBytes;
use hgs_crypto::rsa::{OaepHash, PublicKey, SignatureScheme};
use hgs_custody::Capabilities;

use crate::session::{ErrorClass, Hashing, TokenSession, class_of, lost};
use crate::{MechanismFinding, Oaep, OaepPlace, TokenError};

/// What is signed and encrypted in trials; neither says anything.
const TRIAL: &[u8] = b"OpenHGS trial of a token's key  ";

/// How work with a key is done.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Profile {
    oaep_sha256: OaepPlace,
    oaep_sha1: OaepPlace,
    raw: bool,
    pkcs1: Option<Hashing>,
    pss: Option<Hashing>,
}

impl Profile {
    /// Tries what the attributes of the key, the mechanisms of the token and the settings allow. What
    /// failed in a way that a broken token fails too is a doubt.
    pub(crate) fn of(
        token_session: &mut TokenSession,
        key: ObjectHandle,
        public: &PublicKey,
        oaep: Oaep,
    ) -> Result<(Self, Option<TokenError>), TokenError> {
        let uses = Uses::of(token_session, key)?;
        let mut trials = Trials::of(token_session, key, public);
        let raw = uses.decrypts && trials.offers(MechanismType::RSA_X_509)?.0;
        let native = uses.decrypts && trials.offers(MechanismType::RSA_PKCS_OAEP)?.0;
        let token = native && oaep != Oaep::Host;
        let host = raw && matches!(oaep, Oaep::Auto | Oaep::Host);
        let profile = Self {
            oaep_sha256: trials.oaep(OaepHash::Sha256, token && oaep != Oaep::Sha1, host)?,
            oaep_sha1: trials.oaep(OaepHash::Sha1, token, host)?,
            raw,
            pkcs1: trials.signature(SignatureScheme::Pkcs1Sha256, uses.signs)?,
            pss: trials.signature(SignatureScheme::PssSha256, uses.signs)?,
        };
        if !profile.does_anything() {
            trials.is_there()?;
        }
        Ok((profile, trials.doubt))
    }

    pub(crate) fn oaep(&self, hash: OaepHash) -> OaepPlace {
        match hash {
            OaepHash::Sha256 => self.oaep_sha256,
            OaepHash::Sha1 => self.oaep_sha1,
        }
    }

    pub(crate) fn hashing(&self, scheme: SignatureScheme) -> Option<Hashing> {
        match scheme {
            SignatureScheme::Pkcs1Sha256 => self.pkcs1,
            SignatureScheme::PssSha256 => self.pss,
        }
    }

    /// Does something with the key that only a working token can do: a signature if it signs, else
    /// the decryption of a fresh ciphertext.
    pub(crate) fn probe(
        &self,
        token_session: &mut TokenSession,
        key: ObjectHandle,
        public: &PublicKey,
    ) -> Result<(), TokenError> {
        let trials = Trials::of(token_session, key, public);
        let schemes = [SignatureScheme::Pkcs1Sha256, SignatureScheme::PssSha256];
        let sign = schemes
            .into_iter()
            .find_map(|scheme| Some((scheme, self.hashing(scheme)?)));
        let hashes = [OaepHash::Sha256, OaepHash::Sha1];
        let open = hashes
            .into_iter()
            .find(|hash| self.oaep(*hash) != OaepPlace::Nowhere);
        let outcome = match (sign, open) {
            (Some((scheme, hashing)), _) => trials.sign(scheme, hashing),
            (None, Some(hash)) => trials.decrypt(hash, self.oaep(hash)),
            (None, None) => return trials.is_there(),
        };
        match outcome {
            Ok(true) => Ok(()),
            Ok(false) => Err(TokenError::WrongResult),
            Err(error) => Err(lost(&error)),
        }
    }

    /// Whether any use of the key was confirmed by its public half.
    pub(crate) fn does_anything(&self) -> bool {
        let opens = [self.oaep_sha256, self.oaep_sha1];
        opens.iter().any(|place| *place != OaepPlace::Nowhere)
            || self.pkcs1.is_some()
            || self.pss.is_some()
    }

    /// Whether it does all that `other` does, be it in another way.
    pub(crate) fn does_all_of(&self, other: &Self) -> bool {
        let can = |profile: &Self| {
            let can = profile.capabilities();
            let opens = [can.oaep_sha256, can.oaep_sha1];
            [opens, [can.pkcs1_sha256, can.pss_sha256]].concat()
        };
        let pairs = can(self).into_iter().zip(can(other));
        pairs.into_iter().all(|(own, others)| own || !others)
    }

    pub(crate) fn capabilities(&self) -> Capabilities {
        Capabilities {
            oaep_sha256: self.oaep_sha256 != OaepPlace::Nowhere,
            oaep_sha1: self.oaep_sha1 != OaepPlace::Nowhere,
            pkcs1_sha256: self.pkcs1.is_some(),
            pss_sha256: self.pss.is_some(),
        }
    }

    pub(crate) fn finding(&self) -> MechanismFinding {
        MechanismFinding {
            oaep_sha256: self.oaep_sha256,
            oaep_sha1: self.oaep_sha1,
            raw: self.raw,
            pkcs1_sha256: self.pkcs1.is_some(),
            pss_sha256: self.pss.is_some(),
        }
    }
}

/// `CKA_SIGN` and `CKA_DECRYPT`. A token that shows neither is tried.
struct Uses {
    signs: bool,
    decrypts: bool,
}

impl Uses {
    fn of(token_session: &TokenSession, key: ObjectHandle) -> Result<Self, TokenError> {
        let mut uses = Self {
            signs: true,
            decrypts: true,
        };
        let types = [
            AttributeType::Sign,
            AttributeType::Decrypt,
            AttributeType::AlwaysAuthenticate,
        ];
        let attributes = token_session.attributes(key, &types);
        for attribute in attributes.map_err(|error| lost(&error))? {
            match attribute {
                Attribute::Sign(signs) => uses.signs = signs,
                Attribute::Decrypt(decrypts) => uses.decrypts = decrypts,
                Attribute::AlwaysAuthenticate(true) => return Err(TokenError::PinAtEachUse),
                _ => {}
            }
        }
        Ok(uses)
    }
}

struct Trials<'t> {
    token_session: &'t mut TokenSession,
    key: ObjectHandle,
    public: &'t PublicKey,
    doubt: Option<TokenError>,
}

impl<'t> Trials<'t> {
    fn of(token_session: &'t mut TokenSession, key: ObjectHandle, public: &'t PublicKey) -> Self {
        Self {
            token_session,
            key,
            public,
            doubt: None,
        }
    }

    fn offers(&self, mechanism: MechanismType) -> Result<(bool, bool), TokenError> {
        let offers = self.token_session.offers(mechanism);
        offers.map_err(|error| lost(&error))
    }

    fn oaep(&mut self, hash: OaepHash, token: bool, host: bool) -> Result<OaepPlace, TokenError> {
        for (place, allowed) in [(OaepPlace::Token, token), (OaepPlace::Host, host)] {
            if allowed {
                let outcome = self.decrypt(hash, place);
                if self.judge(outcome)? {
                    return Ok(place);
                }
            }
        }
        Ok(OaepPlace::Nowhere)
    }

    fn signature(
        &mut self,
        scheme: SignatureScheme,
        signs: bool,
    ) -> Result<Option<Hashing>, TokenError> {
        let (plain, hashing) = match scheme {
            SignatureScheme::Pkcs1Sha256 => {
                (MechanismType::RSA_PKCS, MechanismType::SHA256_RSA_PKCS)
            }
            SignatureScheme::PssSha256 => (
                MechanismType::RSA_PKCS_PSS,
                MechanismType::SHA256_RSA_PKCS_PSS,
            ),
        };
        for (mechanism, by) in [(plain, Hashing::Host), (hashing, Hashing::Token)] {
            if signs && self.offers(mechanism)?.1 {
                let outcome = self.sign(scheme, by);
                if self.judge(outcome)? {
                    return Ok(Some(by));
                }
            }
        }
        Ok(None)
    }

    /// Whether a result that should be right is right.
    fn decrypt(&self, hash: OaepHash, place: OaepPlace) -> Result<bool, Error> {
        let trial = SecretBytes::from(TRIAL);
        let ciphertext = self
            .public
            .encrypt_oaep(hash, &trial)
            .expect("every accepted key has room for 32 octets");
        let opened = self
            .token_session
            .decrypt(self.key, place, hash, &ciphertext)?;
        Ok(opened == Ok(trial))
    }

    fn sign(&self, scheme: SignatureScheme, hashing: Hashing) -> Result<bool, Error> {
        let signature = self.token_session.sign(self.key, hashing, scheme, TRIAL)?;
        Ok(self.public.verify(scheme, TRIAL, &signature).is_ok())
    }

    /// Whether it can be done, or why that is unknown.
    fn judge(&mut self, outcome: Result<bool, Error>) -> Result<bool, TokenError> {
        match outcome {
            Ok(true) => Ok(true),
            // Not the key of this public half, or no use for it.
            Ok(false) => Ok(false),
            Err(error) => {
                match class_of(&error) {
                    ErrorClass::Unsupported => {}
                    ErrorClass::Doubtful => {
                        self.doubt.get_or_insert_with(|| lost(&error));
                    }
                    _ => return Err(lost(&error)),
                }
                self.token_session.renew()?;
                Ok(false)
            }
        }
    }

    /// Whether the token still knows the object, when it refuses all work with it.
    fn is_there(&self) -> Result<(), TokenError> {
        let seen = self
            .token_session
            .attributes(self.key, &[AttributeType::Class]);
        seen.map(drop).map_err(|error| lost(&error))
    }
}
