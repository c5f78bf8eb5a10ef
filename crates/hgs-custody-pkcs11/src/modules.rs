//! All modules of a process.

use std::sync::Arc;

use hgs_custody::{PinSource, Pkcs11Uri};

use crate::module::Module;
use crate::token::Token;
use crate::{Oaep, TokenError, keeper};

/// The modules of a process, finalised when no key in them is in use any more.
#[derive(Debug)]
pub(crate) struct Modules {
    pub(crate) modules: Vec<Arc<Module>>,
    pub(crate) pin_source: Option<PinSource>,
}

impl Modules {
    /// The tokens that a URI may mean: one in the module that it names, or in each.
    pub(crate) fn candidates(
        &self,
        uri: &Pkcs11Uri,
    ) -> Result<Vec<(Arc<Token>, Oaep)>, TokenError> {
        if self.modules.is_empty() {
            return Err(TokenError::NoModule);
        }
        let wanted = uri.module_path.as_ref();
        let modules = self.modules.iter();
        let candidates: Vec<_> = modules
            .filter(|module| wanted.is_none_or(|path| *path == module.settings.path))
            .map(|module| {
                keeper::start(module);
                let token = module.token(uri, self.pin_source.as_ref());
                (token, module.settings.oaep)
            })
            .collect();
        match (candidates.is_empty(), wanted) {
            (true, Some(path)) => Err(TokenError::ModuleNotConfigured { path: path.clone() }),
            _ => Ok(candidates),
        }
    }

    /// Does `work` in the token of a URI: in the first module that has it.
    pub(crate) fn in_token<T>(
        &self,
        uri: &Pkcs11Uri,
        work: impl Fn(&Arc<Token>) -> Result<T, TokenError>,
    ) -> Result<T, TokenError> {
        let mut reason = None;
        let candidates = self.candidates(uri)?;
        for (token, _) in &candidates {
            token.look_again();
            match work(token) {
                Err(error) if error.may_be_elsewhere() => {
                    // "Not here" says less than why another module could not tell.
                    let absent = matches!(error, TokenError::TokenAbsent { .. });
                    if reason.is_none() || !absent {
                        reason = Some(error);
                    }
                }
                outcome => {
                    let others = candidates
                        .iter()
                        .filter(|(other, _)| !Arc::ptr_eq(other, token));
                    others.for_each(|(other, _)| other.forget());
                    return outcome;
                }
            }
        }
        Err(reason.unwrap_or(TokenError::NoModule))
    }
}

impl Drop for Modules {
    fn drop(&mut self) {
        self.modules.iter().for_each(|module| module.close());
    }
}
