use std::sync::Arc;
use std::time::Duration;

use hgs_crypto::rsa::PublicKey;
use hgs_custody::{Pkcs11Uri, Pkcs11Uris, PrivateKey};

use crate::key::{KeyCandidates, TokenKey, only};
use crate::module::Module;
use crate::modules::Modules;
use crate::search::{KeyName, Selector};
use crate::{
    Breaker, Examination, ModuleStatus, Settings, TokenError, Usage, examination, generation,
};

/// Time that the generation of a key may take; small devices need minutes for 4096 bits.
const GENERATION: Duration = Duration::from_secs(600);

/// All tokens of a process. There is one of these in a process, because a module has one state for
/// all that use it; clones share it.
#[derive(Debug, Clone)]
pub struct Tokens {
    modules: Arc<Modules>,
}

impl Tokens {
    /// Takes the settings. No module is loaded before one of its keys is needed.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        let modules = settings.modules.into_iter();
        Self {
            modules: Arc::new(Modules {
                modules: modules
                    .map(|module| Arc::new(Module::new(module)))
                    .collect(),
                pin_source: settings.pin_source,
            }),
        }
    }

    /// The key of a certificate with this public half, and the spare if there is one. Nothing is
    /// asked yet: the object is found when it is first needed.
    #[must_use]
    pub fn key(&self, uris: &Pkcs11Uris, public: &PublicKey) -> Arc<dyn PrivateKey> {
        let candidates = uris
            .iter()
            .map(|uri| KeyCandidates::of(&self.modules, uri, public));
        let key = TokenKey::new(public.clone(), candidates.collect(), &self.modules);
        Arc::new(key)
    }

    /// Finds the key now, and its public half in the token.
    pub fn open(&self, uri: &Pkcs11Uri) -> Result<TokenKey, TokenError> {
        let public = self.modules.in_token(uri, |token| {
            let name = KeyName::of(uri);
            token.run(move |token_session| {
                let handle = only(token_session, &name)?;
                let public = token_session.public_half(handle, &name)?;
                public.ok_or(TokenError::PublicHalfHidden)
            })
        })?;
        Ok(self.key_of(uri, public))
    }

    /// Generates a key of 2048 to 8192 bits, as far as the token can, in the token, with the label and the identifier
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
        if uri.object.is_none() && uri.id.is_none() {
            return Err(TokenError::KeyNotNamed);
        }
        let public = self.modules.in_token(uri, |token| {
            let name = KeyName::of(uri);
            token.run_patiently(GENERATION, move |token_session| {
                generation::generate(token_session, &name, bits, usage)
            })
        })?;
        Ok(self.key_of(uri, public))
    }

    fn key_of(&self, uri: &Pkcs11Uri, public: PublicKey) -> TokenKey {
        let candidates = KeyCandidates::of(&self.modules, uri, &public);
        TokenKey::new(public, vec![candidates], &self.modules)
    }

    /// Goes the way to a key stage by stage.
    #[must_use]
    pub fn examine(&self, uri: &Pkcs11Uri) -> Examination {
        examination::examine(&self.modules, uri)
    }

    /// How the modules are doing.
    #[must_use]
    pub fn status(&self) -> Vec<ModuleStatus> {
        let modules = self.modules.modules.iter();
        modules.map(|module| module.status()).collect()
    }

    /// Why the token of this key takes no work now. A token that was not needed yet is not asked.
    #[must_use]
    pub fn unavailability(&self, uri: &Pkcs11Uri) -> Option<TokenError> {
        let name = Selector::of(uri).to_string();
        let tokens = self.status().into_iter().flat_map(|module| module.tokens);
        let mut reasons = Vec::new();
        // Several modules may have been asked for the token, of which one has it.
        for token in tokens.filter(|token| token.name == name) {
            match token.breaker {
                Breaker::Open { reason, .. } => reasons.push(reason),
                Breaker::Closed => return None,
            }
        }
        reasons.pop()
    }

    /// Tries all open breakers now, tokens that refused their PIN among them.
    pub fn retry(&self) {
        self.modules
            .modules
            .iter()
            .for_each(|module| module.retry());
    }
}
