//! Signing in by OpenID Connect Core 1.0, the part of the relying party: the authorisation code flow with PKCE (RFC 7636).
//!
//! ```text
//!  relying party                                            provider
//!  GET  issuer/.well-known/openid-configuration  -------->
//!  Provider::read               <------------------------
//!  SignIns::begin -> SignIn, authorisation_url -- browser ->  the user signs in
//!  Callback::read               <---------------- browser --
//!  SignIns::finish -> SignIn
//!  token_request                ------------------------>
//!  read_token_answer            <------------------------  ID token
//!  GET  jwks_uri                ------------------------>
//!  KeySet::read                 <------------------------
//!  IdToken::verify -> User
//! ```
//!
//! An ID token is believed only if it is signed by a key that the provider publishes, with an algorithm that the
//! configuration names, and says that it was issued by this provider, for this client, now, and for this sign-in. What the
//! header of a token says of keys is not believed: only `kid` is read, to choose among those of the provider.
//!
//! This crate connects to nobody, tells no time and draws no randomness of its own. What a user may do, it does not decide:
//! a [`User`] has the names of groups. Refresh tokens, access tokens, user info and encrypted tokens are not used.

mod callback;
mod error;
pub mod fuzzing;
mod id_token;
mod json;
mod keys;
mod provider;
mod relying_party;
mod sign_in;
mod token;
mod url;

pub use callback::{Callback, CallbackError};
pub use error::{Fault, SignInError};
pub use id_token::{ClaimError, IdToken, IdTokenError, User};
pub use json::DocumentError;
pub use keys::{KeySet, KeySetError, UnusableKey};
pub use provider::{Provider, ProviderError};
pub use relying_party::{Algorithm, AlgorithmError, Issuer, RelyingParty};
pub use sign_in::{BrowserSecret, SIGN_IN_TIME, SignIn, SignIns};
pub use token::{TokenError, TokenRequest, read_token_answer, token_request};
pub use url::{ProviderUrl, ProviderUrlError};
