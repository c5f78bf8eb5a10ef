//! Why a user is not signed in, and who can mend it.

use crate::callback::CallbackError;
use crate::id_token::{ClaimError, IdTokenError};
use crate::keys::KeySetError;
use crate::provider::ProviderError;
use crate::token::TokenError;

/// Why a user is not signed in.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SignInError {
    /// The metadata of the provider.
    #[error("the provider can't be used: {0}")]
    Provider(#[from] ProviderError),
    /// What the browser brought back.
    #[error(transparent)]
    Callback(#[from] CallbackError),
    /// The answer for the code.
    #[error("the provider gives no ID token: {0}")]
    Token(#[from] TokenError),
    /// The keys of the provider.
    #[error("the provider can't be used: {0}")]
    Keys(#[from] KeySetError),
    /// The ID token.
    #[error("the provider can't be believed: {0}")]
    IdToken(#[from] IdTokenError),
}

/// Who can mend it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Who runs the provider.
    Provider,
    /// Who wrote the configuration, here or at the provider.
    Configuration,
    /// The user, by beginning again.
    User,
    /// The clocks of both sides.
    Clocks,
}

impl SignInError {
    /// Who can mend it.
    #[must_use]
    pub fn fault(&self) -> Fault {
        match self {
            Self::Provider(error) => match error {
                ProviderError::Issuer { .. } | ProviderError::Algorithms { .. } => {
                    Fault::Configuration
                }
                ProviderError::Document(_)
                | ProviderError::Url { .. }
                | ProviderError::Unsupported { .. } => Fault::Provider,
            },
            Self::Callback(error) => match error {
                CallbackError::Refused { code, .. } => match code.as_str() {
                    "access_denied"
                    | "login_required"
                    | "interaction_required"
                    | "temporarily_unavailable" => Fault::User,
                    _ => Fault::Configuration,
                },
                CallbackError::NoCode | CallbackError::OtherIssuer(_) => Fault::Provider,
                CallbackError::Malformed(_)
                | CallbackError::NoCookie
                | CallbackError::NotBegun
                | CallbackError::OtherState => Fault::User,
            },
            Self::Token(error) => match error {
                TokenError::Client(_) => Fault::Configuration,
                TokenError::Grant(_) => Fault::User,
                TokenError::Document { .. } | TokenError::Refused { .. } => Fault::Provider,
            },
            Self::Keys(_) => Fault::Provider,
            Self::IdToken(error) => match error {
                IdTokenError::Algorithm { .. } | IdTokenError::Encrypted => Fault::Configuration,
                IdTokenError::Claim(ClaimError::Expired { .. } | ClaimError::Issued { .. }) => {
                    Fault::Clocks
                }
                IdTokenError::Claim(ClaimError::GroupsLeftOut(_) | ClaimError::Groups(_)) => {
                    Fault::Configuration
                }
                _ => Fault::Provider,
            },
        }
    }

    /// What to do.
    #[must_use]
    pub fn remedy(&self) -> &'static str {
        match self {
            Self::Provider(ProviderError::Issuer { .. }) => {
                "write `issuer` in [listen.console.openid] as the provider's metadata have it, to the last slash"
            }
            Self::Provider(ProviderError::Algorithms { .. })
            | Self::IdToken(IdTokenError::Algorithm { .. }) => {
                "name the algorithm in `algorithms` of [listen.console.openid] if it is RS256 or ES256, or have the provider sign with one of these"
            }
            Self::IdToken(IdTokenError::UnknownKey(_) | IdTokenError::Signature(_)) => {
                "try again in a minute: the provider may have new keys; if it persists, ask who runs it"
            }
            Self::IdToken(IdTokenError::Encrypted) => {
                "have the provider not encrypt the ID tokens of this client"
            }
            Self::IdToken(IdTokenError::Claim(ClaimError::GroupsLeftOut(_))) => {
                "have the provider put only the groups into the token that are assigned to this application, or roles of the application"
            }
            Self::IdToken(IdTokenError::Claim(ClaimError::Groups(_))) => {
                "name the claim that holds the groups in `groups_claim` of [listen.console.openid]"
            }
            Self::Token(TokenError::Client(_)) => {
                "compare `client_id` and the secret in [listen.console.openid] with the client at the provider"
            }
            _ => match self.fault() {
                Fault::User => {
                    "begin again at the sign-in page, in one browser and within five minutes"
                }
                Fault::Provider => {
                    "ask who runs the provider; a one-time link by `hgs console` works meanwhile"
                }
                Fault::Configuration => {
                    "compare [listen.console.openid] with the client at the provider: identifier, redirect URI, scopes"
                }
                Fault::Clocks => "compare the clocks of the guardian and of the provider",
            },
        }
    }
}
