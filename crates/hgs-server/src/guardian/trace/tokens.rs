//! The ways to keys in tokens, as the tokens' own examination finds them.

use hgs_custody::{KeyReference, PinSource, Pkcs11Uri};
use hgs_custody_pkcs11::{
    Examination, KeyFinding, MechanismFinding, ModuleFinding, OaepPlace, Stage, TokenError,
    TokenFinding, Tokens, Usage,
};
use hgs_pki::Certificate;
use hgs_trace::guardian::{Attributes, Sessions, Token};
use hgs_trace::{Observed, PathFacts, Problem};

use crate::config::Pkcs11;

/// Examines the tokens that hold keys.
#[derive(Clone, Copy)]
pub(super) struct TokenExaminer<'a> {
    pub(super) tokens: &'a Tokens,
    /// Where keys and PINs are on this machine.
    pub(super) settings: &'a Pkcs11,
}

impl TokenExaminer<'_> {
    /// The ways to the key of `certificate`; none if it is in no token.
    pub(super) fn ways(
        &self,
        reference: &KeyReference,
        certificate: &Certificate,
        usage: Usage,
    ) -> Vec<Token> {
        match self.settings.place(&certificate.thumbprint(), reference) {
            KeyReference::Sealed => Vec::new(),
            KeyReference::Pkcs11(uris) => {
                let ways = uris.iter().map(|uri| self.way(uri, certificate, usage));
                ways.collect()
            }
        }
    }

    fn way(&self, uri: &Pkcs11Uri, certificate: &Certificate, usage: Usage) -> Token {
        let seen = self.tokens.examine(uri);
        let source = uri
            .pin_source
            .as_ref()
            .or(self.settings.pin_source.as_ref());
        Token {
            name: name(uri),
            configured: configured(&seen),
            module: module(&seen),
            token: found(&seen.token, |token: &TokenFinding| {
                format!(
                    "{}, {}, serial number {}",
                    token.label, token.model, token.serial
                )
            }),
            pin_file: match source {
                Some(PinSource::File(path)) => Some(PathFacts::at(path)),
                _ => None,
            },
            pin: found(&seen.pin, |pin| pin.source.to_string()),
            login: found(&seen.login, |()| ()),
            sessions: found(&seen.sessions, |sessions| Sessions {
                open: sessions.open,
                maximum: sessions.maximum,
                in_use: sessions.in_use,
            }),
            key: found(&seen.key, |key: &KeyFinding| Attributes {
                belongs: key.public == *certificate.public_key(),
                signs: key.signs,
                decrypts: key.decrypts,
                sensitive: key.sensitive,
                extractable: key.extractable,
            }),
            mechanisms: match &seen.mechanisms {
                Stage::Passed(mechanisms) => Some(able(mechanisms, usage)),
                stage => found(stage, |_| String::new()),
            },
        }
    }
}

/// The part of a URI that names the token.
fn name(uri: &Pkcs11Uri) -> String {
    let token = Pkcs11Uri {
        object: None,
        id: None,
        pin_source: None,
        ..uri.clone()
    };
    token.to_string()
}

fn is_unconfigured(error: &TokenError) -> bool {
    matches!(
        error,
        TokenError::NoModule | TokenError::ModuleNotConfigured { .. }
    )
}

fn configured(seen: &Examination) -> Observed<()> {
    match &seen.module {
        Stage::Failed(error) if is_unconfigured(error) => Err(problem(error)),
        _ => Ok(()),
    }
}

fn module(seen: &Examination) -> Option<Observed<String>> {
    match &seen.module {
        Stage::Failed(error) if is_unconfigured(error) => None,
        stage => found(stage, |module: &ModuleFinding| {
            format!("{}, {}", module.path.display(), module.description)
        }),
    }
}

/// Whether the token has what the work takes.
fn able(mechanisms: &MechanismFinding, usage: Usage) -> Observed<String> {
    let shown = |place: OaepPlace| match place {
        OaepPlace::Token => "in the token",
        OaepPlace::Host => "raw RSA in the token, its padding removed here",
        OaepPlace::Nowhere => "not at all",
    };
    match usage {
        Usage::Decrypt if mechanisms.oaep_sha256 == OaepPlace::Nowhere => Err(Problem::new(
            format_args!("OAEP with SHA-256 {}", shown(OaepPlace::Nowhere)),
        )),
        Usage::Decrypt => Ok(format!(
            "OAEP with SHA-256 {}",
            shown(mechanisms.oaep_sha256)
        )),
        Usage::Sign if mechanisms.pkcs1_sha256 => Ok("PKCS #1 signatures with SHA-256".to_owned()),
        Usage::Sign => Err(Problem::new("no PKCS #1 signatures with SHA-256")),
    }
}

fn found<T, U>(stage: &Stage<T>, seen: impl Fn(&T) -> U) -> Option<Observed<U>> {
    match stage {
        Stage::Passed(finding) => Some(Ok(seen(finding))),
        Stage::Failed(error) => Some(Err(problem(error))),
        Stage::Skipped => None,
    }
}

fn problem(error: &TokenError) -> Problem {
    Problem::of(error).with_remedy(error.remedy())
}
