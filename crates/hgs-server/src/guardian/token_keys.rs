//! Keys in tokens: looked for, made under a name, tried, and named when something fails after they were made.

use std::path::Path;
use std::sync::{Mutex, PoisonError};

use hgs_crypto::random::{self, System};
use hgs_crypto::rsa::OaepHash;
use hgs_custody::{CertifyError, Pkcs11Uri, Pkcs11Uris, PrivateKey as _};
use hgs_custody_pkcs11::{TokenError, TokenKey, Tokens, Usage};
use hgs_pki::Certificate;

use super::certify::KeySize;
use super::initialise_error::InitialiseError;
use super::proof::prove;

/// How new keys are made, and which were made in tokens.
pub(super) struct NewKeys<'n> {
    pub(super) size: KeySize,
    pub(super) tokens: &'n Tokens,
    /// The keys that were made in tokens, which stay there whatever happens.
    made: Mutex<Vec<Pkcs11Uri>>,
}

impl<'n> NewKeys<'n> {
    pub(super) fn new(size: KeySize, tokens: &'n Tokens) -> Self {
        Self {
            size,
            tokens,
            made: Mutex::default(),
        }
    }

    /// The keys that were made in tokens.
    pub(super) fn made(self) -> Vec<Pkcs11Uri> {
        let made = self.made.into_inner();
        made.unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds to an error which keys were made before it, and are left in their tokens.
    pub(super) fn blame(self, error: InitialiseError) -> InitialiseError {
        let made = self.made();
        match made.is_empty() {
            true => error,
            false => InitialiseError::AfterMaking {
                made,
                error: Box::new(error),
            },
        }
    }
}

/// Where a private key comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyOrigin {
    /// It was made.
    Made,
    /// It was in the token.
    Found,
    /// It was in a file.
    Given,
}

impl KeyOrigin {
    /// In one word.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Made => "made",
            Self::Found => "found",
            Self::Given => "given",
        }
    }
}

/// A key that was looked for in its token.
pub(super) struct LocatedKey {
    uris: Pkcs11Uris,
    /// Absent if it is to be made.
    key: Option<TokenKey>,
}

impl LocatedKey {
    /// Looks for a key in its token, and for the same key in the second one. If it is not there, and only if it `may_be_made`,
    /// that is no error.
    pub(super) fn find(
        tokens: &Tokens,
        uris: Pkcs11Uris,
        may_be_made: bool,
    ) -> Result<Self, InitialiseError> {
        let uri = &uris.primary;
        let key = match tokens.open(uri) {
            Ok(key) => Some(key),
            Err(TokenError::KeyAbsent { .. }) if may_be_made => {
                if uri.object.is_none() && uri.id.is_none() {
                    return Err(in_token(uri)(TokenError::KeyNotNamed));
                }
                None
            }
            Err(error @ TokenError::KeyAbsent { .. }) => {
                let uri = Box::new(uri.clone());
                return Err(InitialiseError::NotThere { uri, error });
            }
            Err(error) => return Err(in_token(uri)(error)),
        };
        if let Some(spare) = &uris.spare {
            tokens.open(spare).map_err(in_token(spare))?;
        }
        Ok(Self { uris, key })
    }

    /// The key, made if it was not there; and how it is named from then on: with an identifier of its own.
    pub(super) fn found_or_made(
        self,
        usage: Usage,
        new_keys: &NewKeys<'_>,
    ) -> Result<(TokenKey, Pkcs11Uris, KeyOrigin), InitialiseError> {
        let Self { mut uris, key } = self;
        if let Some(key) = key {
            return Ok((key, uris, KeyOrigin::Found));
        }
        if uris.primary.id.is_none() {
            let id: [u8; 8] =
                random::array(&mut System::new()).map_err(|_| CertifyError::Randomness)?;
            uris.primary.id = Some(id.to_vec());
        }
        let uri = &uris.primary;
        let key = new_keys
            .tokens
            .generate(uri, new_keys.size.bits(), usage)
            .map_err(in_token(uri))?;
        let mut made = new_keys.made.lock().unwrap_or_else(PoisonError::into_inner);
        made.push(uri.clone());
        drop(made);
        Ok((key, uris, KeyOrigin::Made))
    }

    /// Whether both are one key, or are to be made under one name.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        match (&self.key, &other.key) {
            (Some(one), Some(other)) => one.public() == other.public(),
            (None, None) => self.name() == other.name(),
            _ => false,
        }
    }

    /// Its URI without what says how the token is reached.
    pub(super) fn name(&self) -> Pkcs11Uri {
        Pkcs11Uri {
            module_path: None,
            pin_source: None,
            ..self.uris.primary.clone()
        }
    }

    /// The key, if it was found.
    pub(super) fn found(&self) -> Option<&TokenKey> {
        self.key.as_ref()
    }
}

/// The commands that remove a key from its token.
#[must_use]
pub fn removal_of(uri: &Pkcs11Uri) -> String {
    let token = uri.token.as_deref().unwrap_or("LABEL");
    let id = uri
        .id
        .as_deref()
        .map(hgs_crypto::hex::encode)
        .unwrap_or_default();
    let module = uri
        .module_path
        .as_deref()
        .unwrap_or_else(|| Path::new("MODULE"));
    ["privkey", "pubkey"]
        .map(|kind| {
            format!(
                "`pkcs11-tool --module {} --token-label '{token}' --login --delete-object --type {kind} --id {id}`",
                module.display()
            )
        })
        .join(" and ")
}

/// Has the key of `certificate` do its work wherever it is. The hash is that which all of them can do OAEP with.
pub(super) fn proved_in_tokens(
    tokens: &Tokens,
    certificate: &Certificate,
    usage: Usage,
    uris: &Pkcs11Uris,
) -> Result<OaepHash, InitialiseError> {
    let mut hash = OaepHash::Sha256;
    for uri in uris.iter() {
        let key = tokens.open(uri).map_err(in_token(uri))?;
        if prove(&key, certificate, usage)? == OaepHash::Sha1 {
            hash = OaepHash::Sha1;
        }
    }
    Ok(hash)
}

fn in_token(uri: &Pkcs11Uri) -> impl FnOnce(TokenError) -> InitialiseError {
    move |error| InitialiseError::Token {
        uri: Box::new(uri.clone()),
        error,
    }
}
