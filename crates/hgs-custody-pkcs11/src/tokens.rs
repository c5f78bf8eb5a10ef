use std::sync::Arc;

use hgs_crypto::SecretBytes;
use hgs_crypto::rsa::{OaepHash, PublicKey, SignatureScheme};
use hgs_custody::{Capabilities, KeyError, Pkcs11Uri, Pkcs11Uris, PrivateKey};

use crate::{Examination, ModuleStatus, Settings, Stage, TokenError, Usage};

/// All tokens of a process. There is one of these in a process, because a module has one state for
/// all that use it; clones share it.
#[derive(Debug, Clone)]
pub struct Tokens {
    settings: Arc<Settings>,
}

impl Tokens {
    /// Takes the settings. No module is loaded before one of its keys is needed.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        let settings = Arc::new(settings);
        Self { settings }
    }

    /// The key of a certificate with this public half, and the spare if there is one. Nothing is
    /// asked yet: the object is found when it is first needed.
    #[must_use]
    pub fn key(&self, uris: &Pkcs11Uris, public: &PublicKey) -> Arc<dyn PrivateKey> {
        let _ = uris;
        Arc::new(TokenKey {
            public: public.clone(),
        })
    }

    /// Finds the key now, and its public half in the token.
    ///
    /// # Errors
    /// See [`TokenError`].
    pub fn open(&self, uri: &Pkcs11Uri) -> Result<TokenKey, TokenError> {
        let _ = (uri, &self.settings);
        Err(TokenError::NoModule)
    }

    /// Generates a key of 2048, 3072 or 4096 bits in the token, with the label and the identifier
    /// that the URI names. It is sensitive and never extractable.
    ///
    /// # Errors
    /// See [`TokenError`]; [`TokenError::KeyExists`] when there is a key of that name.
    pub fn generate(
        &self,
        uri: &Pkcs11Uri,
        bits: usize,
        usage: Usage,
    ) -> Result<TokenKey, TokenError> {
        let _ = (uri, bits, usage);
        Err(TokenError::NoModule)
    }

    /// Goes the way to a key stage by stage.
    #[must_use]
    pub fn examine(&self, uri: &Pkcs11Uri) -> Examination {
        let _ = uri;
        Examination {
            module: Stage::Failed(TokenError::NoModule),
            token: Stage::Skipped,
            pin: Stage::Skipped,
            login: Stage::Skipped,
            sessions: Stage::Skipped,
            key: Stage::Skipped,
            mechanisms: Stage::Skipped,
        }
    }

    /// How the modules are doing.
    #[must_use]
    pub fn status(&self) -> Vec<ModuleStatus> {
        Vec::new()
    }

    /// Tries all open breakers now, tokens that refused their PIN among them.
    pub fn retry(&self) {}
}

/// A private key in a token, or the same in two.
#[derive(Debug, Clone)]
pub struct TokenKey {
    public: PublicKey,
}

impl PrivateKey for TokenKey {
    fn public(&self) -> &PublicKey {
        &self.public
    }

    fn decrypt(&self, _: OaepHash, _: &[u8]) -> Result<SecretBytes, KeyError> {
        Err(TokenError::NoModule.into())
    }

    fn sign(&self, _: SignatureScheme, _: &[u8]) -> Result<Vec<u8>, KeyError> {
        Err(TokenError::NoModule.into())
    }

    fn capabilities(&self) -> Result<Capabilities, KeyError> {
        Err(TokenError::NoModule.into())
    }

    fn is_blocking(&self) -> bool {
        true
    }
}
