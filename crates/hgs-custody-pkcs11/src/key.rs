//! A private key in a token, and the same key in two.

use std::fmt;
use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::time::{Duration, Instant};

use cryptoki::error::Error;
use cryptoki::object::{Attribute, AttributeType, KeyType, ObjectClass, ObjectHandle};
use hgs_crypto::rsa::{OaepHash, PublicKey, SignatureScheme};
use hgs_crypto::{CryptoError, SecretBytes};
use hgs_custody::{Capabilities, KeyError, Pkcs11Uri, PrivateKey};

use crate::modules::Modules;
use crate::profile::Profile;
use crate::search::KeyName;
use crate::session::{ErrorClass, TokenSession, class_of, lost};
use crate::token::{Probe, Token};
use crate::wake_up::lock;
use crate::{Oaep, OaepPlace, TokenError};

/// A private key in a token, or the same in two. When the first can't be used, the second is, at
/// once. `Debug` shows the public half.
#[derive(Clone)]
pub struct TokenKey {
    public: PublicKey,
    candidates: Arc<[KeyCandidates]>,
    /// The modules stay as long as a key in them is in use.
    _modules: Arc<Modules>,
}

impl TokenKey {
    pub(crate) fn new(
        public: PublicKey,
        candidates: Vec<KeyCandidates>,
        modules: &Arc<Modules>,
    ) -> Self {
        Self {
            public,
            candidates: candidates.into(),
            _modules: Arc::clone(modules),
        }
    }

    /// The first that works; the reason why the first does not, if none does.
    fn first<T>(
        &self,
        work: impl Fn(&Arc<KeyLocation>) -> Result<T, TokenError>,
    ) -> Result<T, TokenError> {
        let mut reason = None;
        for candidates in &*self.candidates {
            match candidates.first(&work) {
                Err(TokenError::Refused) => return Err(TokenError::Refused),
                Err(error) => reason = reason.or(Some(error)),
                done => return done,
            }
        }
        Err(reason.unwrap_or(TokenError::NoModule))
    }
}

impl fmt::Debug for TokenKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "TokenKey(of {:?})", self.public)
    }
}

impl PrivateKey for TokenKey {
    fn public(&self) -> &PublicKey {
        &self.public
    }

    fn decrypt(&self, hash: OaepHash, ciphertext: &[u8]) -> Result<SecretBytes, KeyError> {
        let modulus = self.public.modulus();
        // RFC 8017 section 7.1.2 steps 1b and 2a. Tokens disagree about what to say to these.
        if ciphertext.len() != modulus.len() || ciphertext >= modulus {
            return Err(KeyError::Refused);
        }
        Ok(self.first(|location| location.decrypt(hash, ciphertext))?)
    }

    fn sign(&self, scheme: SignatureScheme, message: &[u8]) -> Result<Vec<u8>, KeyError> {
        Ok(self.first(|location| location.sign(scheme, message))?)
    }

    fn capabilities(&self) -> Result<Capabilities, KeyError> {
        Ok(self.first(KeyLocation::profile)?.capabilities())
    }

    fn is_blocking(&self) -> bool {
        true
    }
}

/// The locations where the key of one URI may be: one for each module that may hold the token.
#[derive(Debug)]
pub(crate) struct KeyCandidates {
    locations: Vec<Arc<KeyLocation>>,
    /// Where it was found. A token does not move to another module while the process runs.
    settled: OnceLock<usize>,
    /// Why there is no location at all.
    failure: Option<TokenError>,
}

impl KeyCandidates {
    /// All locations of `uri`. The public half is `public`'s, and checked when the key is found.
    pub(crate) fn of(modules: &Modules, uri: &Pkcs11Uri, public: &PublicKey) -> Self {
        let (candidates, failure) = match modules.candidates(uri) {
            Ok(candidates) => (candidates, None),
            Err(error) => (Vec::new(), Some(error)),
        };
        let locations = candidates.into_iter().map(|(token, oaep)| {
            Arc::new(KeyLocation {
                token,
                name: KeyName::of(uri),
                public: public.clone(),
                oaep,
                known: Mutex::default(),
            })
        });
        Self {
            locations: locations.collect(),
            settled: OnceLock::new(),
            failure,
        }
    }

    fn first<T>(
        &self,
        work: impl Fn(&Arc<KeyLocation>) -> Result<T, TokenError>,
    ) -> Result<T, TokenError> {
        if let Some(settled) = self
            .settled
            .get()
            .and_then(|index| self.locations.get(*index))
        {
            return work(settled);
        }
        let mut reason = self.failure.clone();
        for (index, location) in self.locations.iter().enumerate() {
            match work(location) {
                Err(error) if error.may_be_elsewhere() => {
                    // "Not here" says less than why another module could not tell.
                    let absent = matches!(error, TokenError::TokenAbsent { .. });
                    if reason.is_none() || !absent {
                        reason = Some(error);
                    }
                }
                outcome => {
                    self.settle(index);
                    return outcome;
                }
            }
        }
        Err(reason.unwrap_or(TokenError::NoModule))
    }

    fn settle(&self, index: usize) {
        if self.settled.set(index).is_ok() {
            let others = self.locations.iter().enumerate();
            for (_, location) in others.filter(|(other, _)| *other != index) {
                location.token.forget();
            }
        }
    }
}

/// One key in one token.
#[derive(Debug)]
pub(crate) struct KeyLocation {
    token: Arc<Token>,
    name: KeyName,
    public: PublicKey,
    oaep: Oaep,
    known: Mutex<Known>,
}

/// What is known of a key.
#[derive(Debug, Default)]
struct Known {
    object: Option<Object>,
    /// What it did when it was last tried with success.
    did: Option<Profile>,
    probes: Probes,
}

/// Successful probes after doubtful errors, since when.
#[derive(Debug, Default)]
struct Probes {
    since: Option<Instant>,
    count: u32,
}

/// Probes after doubtful errors within [`PROBE_PERIOD`].
const PROBES: u32 = 4;
const PROBE_PERIOD: Duration = Duration::from_secs(1);

/// The key as one initialisation of the module knows it.
#[derive(Debug, Clone, Copy)]
struct Object {
    initialisation: u64,
    handle: ObjectHandle,
    profile: Profile,
}

impl KeyLocation {
    fn decrypt(
        self: &Arc<Self>,
        hash: OaepHash,
        ciphertext: &[u8],
    ) -> Result<SecretBytes, TokenError> {
        let (location, ciphertext) = (Arc::clone(self), ciphertext.to_vec());
        self.token
            .run(move |token_session| location.decrypt_at(token_session, hash, &ciphertext))
    }

    fn sign(
        self: &Arc<Self>,
        scheme: SignatureScheme,
        message: &[u8],
    ) -> Result<Vec<u8>, TokenError> {
        let (location, message) = (Arc::clone(self), message.to_vec());
        self.token
            .run(move |token_session| location.sign_at(token_session, scheme, &message))
    }

    fn profile(self: &Arc<Self>) -> Result<Profile, TokenError> {
        let location = Arc::clone(self);
        self.token
            .run(move |token_session| Ok(location.object(token_session)?.profile))
    }

    fn decrypt_at(
        self: &Arc<Self>,
        token_session: &mut TokenSession,
        hash: OaepHash,
        ciphertext: &[u8],
    ) -> Result<SecretBytes, TokenError> {
        let object = self.object(token_session)?;
        if object.profile.oaep(hash) == OaepPlace::Nowhere {
            return Err(TokenError::Unsupported);
        }
        let outcome = self.with_object(token_session, |token_session, object| {
            let location = object.profile.oaep(hash);
            token_session.decrypt(object.handle, location, hash, ciphertext)
        })?;
        match outcome {
            Ok(plaintext) => plaintext.map_err(|CryptoError| TokenError::Refused),
            Err(error) if class_of(&error) == ErrorClass::Unsupported => {
                Err(TokenError::Unsupported)
            }
            Err(error) if class_of(&error) == ErrorClass::Doubtful => {
                token_session.renew()?;
                if !self.may_probe() {
                    return Err(TokenError::Refused);
                }
                // Work that must succeed tells a bad ciphertext from a broken token.
                match self.probe_at(token_session) {
                    Ok(()) => {
                        lock(&self.known).probes.count += 1;
                        Err(TokenError::Refused)
                    }
                    Err(_) => Err(lost(&error)),
                }
            }
            Err(error) => Err(lost(&error)),
        }
    }

    fn sign_at(
        self: &Arc<Self>,
        token_session: &mut TokenSession,
        scheme: SignatureScheme,
        message: &[u8],
    ) -> Result<Vec<u8>, TokenError> {
        let object = self.object(token_session)?;
        let hashing = object
            .profile
            .hashing(scheme)
            .ok_or(TokenError::Unsupported)?;
        let sign = |token_session: &mut TokenSession, object: &Object| {
            token_session.sign(object.handle, hashing, scheme, message)
        };
        match self.with_object(token_session, sign)? {
            Ok(signature) => Ok(signature),
            Err(error) if class_of(&error) == ErrorClass::Unsupported => {
                Err(TokenError::Unsupported)
            }
            Err(error) if class_of(&error) == ErrorClass::Doubtful => {
                token_session.renew()?;
                // A digest can't be bad input, so a second error is the token's.
                let again = self.with_object(token_session, sign)?;
                again.map_err(|_| lost(&error))
            }
            Err(error) => Err(lost(&error)),
        }
    }

    /// Does `work` with the key. If its handle is gone, the object is looked for once more: it may
    /// have been replaced by an import.
    fn with_object<T>(
        self: &Arc<Self>,
        token_session: &mut TokenSession,
        work: impl Fn(&mut TokenSession, &Object) -> Result<T, Error>,
    ) -> Result<Result<T, Error>, TokenError> {
        let object = self.object(token_session)?;
        match work(token_session, &object) {
            Err(error) if class_of(&error) == ErrorClass::Handle => {
                lock(&self.known).object = None;
                // Not "absent": it was there a moment ago, and a dead token finds nothing either.
                let object = self.object(token_session).map_err(|_| lost(&error))?;
                Ok(work(token_session, &object))
            }
            outcome => Ok(outcome),
        }
    }

    /// Whether a doubtful error is followed by a probe. A sender of bad ciphertexts must not have the token work
    /// twice for each: once it has proved itself a few times within a second, the fault is the ciphertext's.
    fn may_probe(&self) -> bool {
        let mut known = lock(&self.known);
        if known
            .probes
            .since
            .is_none_or(|since| since.elapsed() > PROBE_PERIOD)
        {
            known.probes = Probes {
                since: Some(Instant::now()),
                count: 0,
            };
        }
        known.probes.count < PROBES
    }

    /// Tries the key after a doubtful error.
    fn probe_at(self: &Arc<Self>, token_session: &mut TokenSession) -> Result<(), TokenError> {
        let object = self.object(token_session)?;
        object
            .profile
            .probe(token_session, object.handle, &self.public)
    }

    /// The key as this initialisation of the module knows it. The first caller finds and tries it, and the
    /// others wait for that.
    fn object(self: &Arc<Self>, token_session: &mut TokenSession) -> Result<Object, TokenError> {
        let mut known = lock(&self.known);
        if let Some(object) = known
            .object
            .filter(|object| object.initialisation == token_session.initialisation)
        {
            return Ok(object);
        }
        let handle = only(token_session, &self.name)?;
        let shown = token_session.public_half(handle, &self.name)?;
        if shown.as_ref().is_some_and(|shown| *shown != self.public) {
            return Err(TokenError::OtherKey);
        }
        let (profile, doubt) = Profile::of(token_session, handle, &self.public, self.oaep)?;
        let does_less = known.did.is_some_and(|did| !profile.does_all_of(&did));
        if let Some(doubt) = doubt.filter(|_| does_less) {
            return Err(doubt);
        }
        let object = Object {
            initialisation: token_session.initialisation,
            handle,
            profile,
        };
        if profile.does_anything() {
            known.object = Some(object);
            known.did = Some(profile);
            let probe: Weak<dyn Probe> = Arc::downgrade(&(Arc::clone(self) as Arc<dyn Probe>));
            self.token.remember(probe);
        } else if shown.is_none() {
            return Err(TokenError::OtherKey);
        }
        Ok(object)
    }
}

impl Probe for KeyLocation {
    fn probe(self: Arc<Self>, token_session: &mut TokenSession) -> Result<(), TokenError> {
        self.probe_at(token_session)
    }
}

/// The private keys of a token, as their URIs name them, for people who look for one.
fn private_keys(token_session: &TokenSession) -> Result<Vec<String>, Error> {
    /// A token may hold thousands.
    const SHOWN: usize = 8;
    let class = [Attribute::Class(ObjectClass::PRIVATE_KEY)];
    let found = token_session.session.find_objects(&class)?;
    let types = [
        AttributeType::Label,
        AttributeType::Id,
        AttributeType::KeyType,
    ];
    let mut shown = Vec::new();
    for key in found.iter().take(SHOWN) {
        let attributes = token_session.attributes(*key, &types)?;
        let name = KeyName::of_attributes(&attributes);
        let is_rsa = attributes.contains(&Attribute::KeyType(KeyType::RSA));
        shown.push(match is_rsa {
            true => name.to_string(),
            false => format!("{name} (not RSA)"),
        });
    }
    if found.len() > SHOWN {
        shown.push(format!("{} more", found.len() - SHOWN));
    }
    Ok(shown)
}

/// The one private RSA key of this name.
pub(crate) fn only(
    token_session: &TokenSession,
    name: &KeyName,
) -> Result<ObjectHandle, TokenError> {
    let found = token_session.find(ObjectClass::PRIVATE_KEY, name);
    let wanted = name.to_string();
    match found.map_err(|error| lost(&error))?.as_slice() {
        [handle] => Ok(*handle),
        [] => {
            // A token that died since its last use finds nothing, without an error.
            let alive = token_session.context.get_token_info(token_session.slot);
            alive.map_err(|error| lost(&error))?;
            let present = private_keys(token_session).map_err(|error| lost(&error))?;
            Err(TokenError::KeyAbsent { wanted, present })
        }
        several => Err(TokenError::KeyAmbiguous {
            wanted,
            count: several.len(),
        }),
    }
}
