//! The metadata of a provider (OpenID Connect Discovery 1.0, section 3).

use hgs_json::{Json, JsonLimits, quoted};

use crate::json::{DocumentError, text, texts};
use crate::relying_party::{Algorithm, RelyingParty};
use crate::url::{ProviderUrl, ProviderUrlError};

/// Octets of the longest metadata.
pub(crate) const MAX_METADATA: usize = 128 * 1024;

const LIMITS: JsonLimits = JsonLimits {
    octets: MAX_METADATA,
    depth: 8,
    values: 2048,
    members: 256,
};

/// How the provider learns which client asks for tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ClientAuthentication {
    /// It does not: the client has no secret.
    None,
    /// By the header field `Authorization`.
    Basic,
    /// By a member of the form.
    Post,
}

/// What is needed of a provider.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Provider {
    pub(crate) authorization_endpoint: ProviderUrl,
    pub(crate) token_endpoint: ProviderUrl,
    pub(crate) jwks_uri: ProviderUrl,
    pub(crate) authentication: ClientAuthentication,
    /// Whether the provider says its name when it sends the browser back (RFC 9207).
    pub(crate) names_itself: bool,
}

/// Why metadata are not taken. The provider is at fault, or the configuration of the other side.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProviderError {
    /// Not such a document.
    #[error("its metadata can't be read: {0}")]
    Document(#[from] DocumentError),
    /// Another provider, or the same one under another name.
    #[error("it calls itself `{found}`, and the configuration calls it `{configured}`")]
    Issuer {
        /// The issuer in the metadata.
        found: String,
        /// The issuer in the configuration.
        configured: String,
    },
    /// A URL is none that is used.
    #[error("its `{member}` can't be used: {error}")]
    Url {
        /// The member of the metadata.
        member: &'static str,
        /// What is wrong with it.
        error: ProviderUrlError,
    },
    /// It can't do what is needed.
    #[error("its `{member}` does not hold `{needed}`")]
    Unsupported {
        /// The member of the metadata.
        member: &'static str,
        /// What is missing there.
        needed: &'static str,
    },
    /// It signs with other algorithms than those that the configuration names.
    #[error("it signs with {found}, and the configuration names {configured}")]
    Algorithms {
        /// Those of the provider.
        found: String,
        /// Those of the configuration.
        configured: String,
    },
}

impl Provider {
    /// Reads the metadata of the provider of `party`.
    ///
    /// # Errors
    /// The first reason not to take them.
    pub fn read(body: &[u8], party: &RelyingParty) -> Result<Self, ProviderError> {
        let json = Json::read(body, &LIMITS).map_err(DocumentError::from)?;
        let found = text(&json, "issuer")?;
        if found != party.issuer.as_str() {
            return Err(ProviderError::Issuer {
                found: quoted(found),
                configured: party.issuer.to_string(),
            });
        }
        check_contains(&json, "response_types_supported", "code")?;
        check_contains(&json, "code_challenge_methods_supported", "S256")?;
        check_algorithms(&json, &party.algorithms)?;
        let names_itself = json.member("authorization_response_iss_parameter_supported");
        Ok(Self {
            authorization_endpoint: url(&json, "authorization_endpoint")?,
            token_endpoint: url(&json, "token_endpoint")?,
            jwks_uri: url(&json, "jwks_uri")?,
            authentication: authentication(&json, party)?,
            names_itself: names_itself.and_then(Json::boolean).unwrap_or(false),
        })
    }

    /// Where its keys are.
    #[must_use]
    pub fn jwks_uri(&self) -> &ProviderUrl {
        &self.jwks_uri
    }
}

fn url(json: &Json<'_>, member: &'static str) -> Result<ProviderUrl, ProviderError> {
    let url = text(json, member)?.parse();
    url.map_err(|error| ProviderError::Url { member, error })
}

/// Refuses a list without `needed`. Where there is no list, nothing is known.
fn check_contains(
    json: &Json<'_>,
    member: &'static str,
    needed: &'static str,
) -> Result<(), ProviderError> {
    match texts(json, member)? {
        Some(found) if !found.contains(&needed) => {
            Err(ProviderError::Unsupported { member, needed })
        }
        _ => Ok(()),
    }
}

fn check_algorithms(json: &Json<'_>, configured: &[Algorithm]) -> Result<(), ProviderError> {
    let Some(found) = texts(json, "id_token_signing_alg_values_supported")? else {
        return Ok(());
    };
    let names: Vec<_> = configured.iter().map(|it| it.name()).collect();
    match names.iter().any(|name| found.contains(name)) {
        true => Ok(()),
        false => Err(ProviderError::Algorithms {
            found: quoted(&found.join(", ")),
            configured: names.join(", "),
        }),
    }
}

/// A provider that lists nothing takes the header field.
fn authentication(
    json: &Json<'_>,
    party: &RelyingParty,
) -> Result<ClientAuthentication, ProviderError> {
    if party.secret.is_none() {
        return Ok(ClientAuthentication::None);
    }
    let member = "token_endpoint_auth_methods_supported";
    match texts(json, member)? {
        None => Ok(ClientAuthentication::Basic),
        Some(found) if found.contains(&"client_secret_basic") => Ok(ClientAuthentication::Basic),
        Some(found) if found.contains(&"client_secret_post") => Ok(ClientAuthentication::Post),
        Some(_) => Err(ProviderError::Unsupported {
            member,
            needed: "client_secret_basic",
        }),
    }
}
