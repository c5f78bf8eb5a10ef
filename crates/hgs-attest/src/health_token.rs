//! Health tokens: what a health certificate says of a host, as a signed JSON Web Token (RFC 7519) for programs that speak neither of
//! the two protocols (section 14 of the protocol profile).
//!
//! ```text
//!  host                                               server
//!  GET  .../openhgs/v1/token  ----------------------->  TokenNonceKey::nonce
//!  Challenge::read            <----- issuer, nonce ---
//!  TokenRequest::prepare -> (identity key signs)
//!  POST .../openhgs/v1/token  ----------------------->  prove -> ProvedRequest
//!                                                         host in good standing, audience allowed, nonce not used before
//!                                                         -> recorded durably -> claims -> sign with an attestation signer
//!  IssuedToken::read          <----- token -----------
//!  the audience               ------ GET /.well-known/jwks.json -> jwks
//! ```
//!
//! A token is a function of its request and of the state: its identifier and its times follow from the nonce and what was
//! signed, so that a request which is sent twice, to two nodes, yields no second token and none that lives longer.

mod appraisal;
mod challenge;
mod nonce;
mod prove;
mod refusal;
mod request;
mod signature;

use std::fmt;
use std::str::FromStr;

use hgs_pki::Seconds;

pub use appraisal::{Appraisal, MeasuredBoot, PROFILE, Tier, Verifier};
pub use challenge::{Challenge, IssuedToken, Refused, TokenReplyError};
pub use nonce::{NONCE_LIFETIME, TokenNonceKey};
pub use prove::{ProvedRequest, TokenAttempt, prove};
pub use refusal::{Code, TokenRefusal};
pub use request::{MAX_REQUEST, PreparedTokenRequest, TokenRequest, TokenRequestError};
pub use signature::{TokenError, discovery, jwks, key_id, sign};

/// What follows the root of the attestation service in the path of requests for tokens.
pub const PATH: &str = "/openhgs/v1/token";

/// Where the public keys are that verify tokens.
pub const JWKS_PATH: &str = "/.well-known/jwks.json";

/// Where programs that know the issuer only find [`JWKS_PATH`] (OpenID Connect Discovery 1.0, section 4).
pub const DISCOVERY_PATH: &str = "/.well-known/openid-configuration";

/// The shortest time that a token may be valid for. A request may be a minute old when it is answered.
pub const SHORTEST_LIFETIME: Seconds = Seconds::from_minutes(2);

/// Characters of the longest issuer, and of the longest audience.
const MAX_NAME: usize = 256;

/// For whom a token is: 1 to 256 printable characters of ASCII without white space.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Audience(String);

/// Not an audience.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an audience has 1 to 256 printable characters of ASCII and no white space")]
pub struct AudienceError;

/// Who issues tokens: the `https` URL under which verifiers find the public keys, without a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issuer(String);

/// Not an issuer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the issuer of tokens is a URL such as https://hgs.example, with https, in lower case, and without a path, a query or a slash at its end"
)]
pub struct IssuerError;

impl Audience {
    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Audience {
    type Err = AudienceError;

    fn from_str(text: &str) -> Result<Self, AudienceError> {
        let is_printable = text.bytes().all(|octet| octet.is_ascii_graphic());
        match is_printable && (1..=MAX_NAME).contains(&text.len()) {
            true => Ok(Self(text.to_owned())),
            false => Err(AudienceError),
        }
    }
}

impl fmt::Display for Audience {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl Issuer {
    /// The URL.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Issuer {
    type Err = IssuerError;

    /// Verifiers compare issuers octet by octet, so there is one spelling.
    fn from_str(text: &str) -> Result<Self, IssuerError> {
        let authority = text.strip_prefix("https://").ok_or(IssuerError)?;
        let is_of_authority = |octet: u8| {
            octet.is_ascii_lowercase() || octet.is_ascii_digit() || b".-:[]".contains(&octet)
        };
        let has_host = authority.starts_with('[') || !authority.starts_with(':');
        let fits = (1..=MAX_NAME).contains(&authority.len());
        match fits && has_host && authority.bytes().all(is_of_authority) {
            true => Ok(Self(text.to_owned())),
            false => Err(IssuerError),
        }
    }
}

impl fmt::Display for Issuer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_audience_is_printable_and_short() {
        let longest = "a".repeat(256);
        for text in ["kubernetes", "https://bao.example:8200/v1", "~", &longest] {
            assert_eq!(text.parse::<Audience>().unwrap().as_str(), text);
        }
        let too_long = "a".repeat(257);
        for text in ["", "two words", "tab\t", "caf\u{e9}", "\u{7f}", &too_long] {
            assert_eq!(text.parse::<Audience>(), Err(AudienceError), "{text:?}");
        }
    }

    #[test]
    fn an_issuer_has_one_spelling_and_is_reached_by_tls() {
        for text in [
            "https://hgs.example",
            "https://hgs.example:8443",
            "https://[2001:db8::1]:8443",
        ] {
            assert_eq!(text.parse::<Issuer>().unwrap().as_str(), text);
        }
        for text in [
            "",
            "https://",
            "http://hgs.example",
            "hgs.example",
            "https://hgs.example/",
            "https://hgs.example/path",
            "https://hgs.example?a",
            "https://HGS.example",
            "https://user@hgs.example",
            "https://:8443",
        ] {
            assert_eq!(text.parse::<Issuer>(), Err(IssuerError), "{text:?}");
        }
    }
}
