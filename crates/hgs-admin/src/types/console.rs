//! The console: links that sign in, and sessions.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::named;
use crate::{Role, text};

/// A link to be made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NewConsoleLink {
    /// SHA-256 of the last part of the link, in hexadecimal: at least 128 random bits, written with letters, digits, `-` and
    /// `_` only.
    #[schemars(with = "text::Digest")]
    pub digest: String,
}

/// A link that signs in to the console, once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ConsoleLink {
    /// How the link begins. The secret follows.
    pub url: String,
    /// SHA-256 of the certificate that the console shows, to be compared with what the browser says.
    pub fingerprint: String,
    /// Until when it can be used.
    #[schemars(with = "text::Time")]
    pub expires: String,
}

/// How a user signed in to the console.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum SignInWay {
    /// By a link, which `hgs console` prints.
    Link,
    /// At a provider of OpenID Connect.
    OpenId,
    /// By a client certificate.
    Certificate,
}

named!(SignInWay);

/// Somebody who is signed in to the console.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ConsoleSession {
    /// The name of the session, as in audit records.
    pub session: String,
    /// Who it is, as in audit records without a session.
    pub user: String,
    /// How the user signed in.
    pub way: SignInWay,
    /// The roles that permit no more than it is permitted.
    pub roles: Vec<Role>,
    /// From where it was used last.
    pub address: String,
    /// When the user signed in.
    #[schemars(with = "text::Time")]
    pub signed_in: String,
    /// When the user did something last.
    #[schemars(with = "text::Time")]
    pub last_used: String,
    /// When it ends, if nothing is done until then.
    #[schemars(with = "text::Time")]
    pub ends: String,
}
