//! What the browser brings back from the provider (OpenID Connect Core 1.0, sections 3.1.2.5 and 3.1.2.6).

use hgs_crypto::SecretBytes;
use hgs_json::quoted;

use crate::json::plain;
use crate::provider::Provider;
use crate::relying_party::RelyingParty;

/// Octets of the longest query string.
const MAX_QUERY: usize = 8 * 1024;
/// Members of the longest.
const MAX_MEMBERS: usize = 32;

/// The query string with which the browser comes back, of which nothing is believed yet.
pub struct Callback {
    pub(crate) state: String,
    code: Option<SecretBytes>,
    error: Option<(String, String)>,
    issuer: Option<String>,
}

/// Why a browser that comes back is not signed in.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CallbackError {
    /// Not what a provider sends. The browser is at fault, or who wrote the link.
    #[error("what the browser brought back is no answer of a provider: {0}")]
    Malformed(&'static str),
    /// The browser has no cookie of a sign-in.
    #[error(
        "this browser did not bring the cookie of a sign-in: it began in another browser, or over five minutes ago"
    )]
    NoCookie,
    /// The cookie is of no sign-in that is open.
    #[error(
        "this sign-in has ended: it was finished already, took over five minutes, or the guardian was started anew"
    )]
    NotBegun,
    /// What was brought back belongs to another sign-in than the cookie.
    #[error(
        "the browser brought back the answer to another sign-in than the one that it began last"
    )]
    OtherState,
    /// The provider says no.
    #[error("the provider refuses: {code}{}{description}", if description.is_empty() { "" } else { ": " })]
    Refused {
        /// Its code.
        code: String,
        /// What it says for people.
        description: String,
    },
    /// Another provider answered, or one that should say its name does not (RFC 9207).
    #[error("the answer is of the provider `{0}`, which was not asked")]
    OtherIssuer(String),
    /// Neither a code nor an error.
    #[error("the provider sent the browser back without a code")]
    NoCode,
}

impl Callback {
    /// Reads a query string. Members that it does not know are ignored.
    ///
    /// # Errors
    /// [`CallbackError::Malformed`].
    pub fn read(query: &str) -> Result<Self, CallbackError> {
        if query.len() > MAX_QUERY {
            return Err(CallbackError::Malformed("it is too long"));
        }
        let members: Vec<(String, String)> = serde_urlencoded::from_str(query)
            .map_err(|_| CallbackError::Malformed("it is not a query string"))?;
        if members.len() > MAX_MEMBERS {
            return Err(CallbackError::Malformed("it has too many members"));
        }
        let member = |name: &str| {
            let mut values = members.iter().filter(|(found, _)| found == name);
            let value = values.next().map(|(_, value)| value.clone());
            match values.next() {
                None => Ok(value),
                Some(_) => Err(CallbackError::Malformed("a member stands twice")),
            }
        };
        let (code, issuer) = (member("code")?, member("iss")?);
        let description = member("error_description")?.unwrap_or_default();
        let error = member("error")?.map(|error| (error, description));
        let state = member("state")?.ok_or(CallbackError::Malformed("it has no `state`"))?;
        Ok(Self {
            state,
            code: code.map(|code| SecretBytes::new(code.into_bytes())),
            error,
            issuer,
        })
    }

    /// The code, if the provider that was asked gives one.
    pub(crate) fn code(
        &self,
        party: &RelyingParty,
        provider: &Provider,
    ) -> Result<SecretBytes, CallbackError> {
        match &self.issuer {
            Some(issuer) if issuer != party.issuer.as_str() => {
                return Err(CallbackError::OtherIssuer(quoted(issuer)));
            }
            None if provider.names_itself => {
                return Err(CallbackError::OtherIssuer("(no name)".to_owned()));
            }
            _ => {}
        }
        if let Some((code, description)) = &self.error {
            return Err(CallbackError::Refused {
                code: plain(code),
                description: plain(description),
            });
        }
        let code = self.code.clone().filter(|code| !code.is_empty());
        code.ok_or(CallbackError::NoCode)
    }
}

impl std::fmt::Debug for Callback {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Callback(..)")
    }
}
