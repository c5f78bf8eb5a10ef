//! What this side knows of itself and of its provider.

use std::fmt;
use std::str::FromStr;

use hgs_crypto::SecretBytes;
use hgs_pki::Seconds;

use crate::url::{ProviderUrl, ProviderUrlError};

/// What follows the issuer in the URL of its metadata (OpenID Connect Discovery 1.0, section 4).
const DISCOVERY_PATH: &str = "/.well-known/openid-configuration";

/// What the configuration says.
#[derive(Debug, Clone)]
pub struct RelyingParty {
    /// Whose tokens are believed.
    pub issuer: Issuer,
    /// The name of this client at the provider.
    pub client_id: String,
    /// What proves to the provider that it is asked by this client; a public client has none.
    pub secret: Option<SecretBytes>,
    /// What is asked for besides `openid`.
    pub scopes: Vec<String>,
    /// How ID tokens may be signed.
    pub algorithms: Vec<Algorithm>,
    /// The claim with the groups of a user.
    pub groups_claim: String,
    /// After how long the provider has to ask the user again who it is.
    pub max_age: Option<Seconds>,
    /// By how much the clocks of both sides may differ.
    pub clock_tolerance: Seconds,
}

/// Who issues ID tokens: a URL, compared octet by octet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issuer(ProviderUrl);

impl Issuer {
    /// The URL.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// Where the provider's metadata are.
    #[must_use]
    pub fn discovery_url(&self) -> ProviderUrl {
        let url = format!("{}{DISCOVERY_PATH}", self.as_str().trim_end_matches('/'));
        // What was parsed has room for the path: see `from_str`.
        url.parse().unwrap_or_else(|_| self.0.clone())
    }
}

impl FromStr for Issuer {
    type Err = ProviderUrlError;

    fn from_str(text: &str) -> Result<Self, ProviderUrlError> {
        let url: ProviderUrl = text.parse()?;
        let with_path: Result<ProviderUrl, _> = format!("{text}{DISCOVERY_PATH}").parse();
        match with_path {
            Ok(_) if !url.has_query() => Ok(Self(url)),
            _ => Err(ProviderUrlError::Malformed),
        }
    }
}

impl fmt::Display for Issuer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

/// How an ID token is signed (RFC 7518 section 3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    Rs256,
    /// ECDSA with P-256 and SHA-256.
    Es256,
}

/// Not the name of an algorithm that is offered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("algorithms are RS256 and ES256")]
pub struct AlgorithmError;

impl Algorithm {
    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Rs256 => "RS256",
            Self::Es256 => "ES256",
        }
    }
}

impl FromStr for Algorithm {
    type Err = AlgorithmError;

    fn from_str(text: &str) -> Result<Self, AlgorithmError> {
        let all = [Self::Rs256, Self::Es256];
        let found = all.into_iter().find(|algorithm| algorithm.name() == text);
        found.ok_or(AlgorithmError)
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_are_below_the_issuer() {
        for (issuer, metadata) in [
            (
                "https://a.example",
                "https://a.example/.well-known/openid-configuration",
            ),
            (
                "https://a.example/",
                "https://a.example/.well-known/openid-configuration",
            ),
            (
                "https://a.example/realms/b",
                "https://a.example/realms/b/.well-known/openid-configuration",
            ),
        ] {
            let issuer: Issuer = issuer.parse().unwrap();
            assert_eq!(issuer.discovery_url().as_str(), metadata);
        }
        let too_long = format!("https://a.example/{}", "a".repeat(980));
        for text in ["https://a.example/?b", "http://a.example", &too_long] {
            assert!(text.parse::<Issuer>().is_err(), "{text}");
        }
    }
}
