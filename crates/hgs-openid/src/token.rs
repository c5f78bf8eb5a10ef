//! The ID token for a code (OpenID Connect Core 1.0, section 3.1.3).

use hgs_crypto::{SecretBytes, base64};
use hgs_json::{Json, JsonLimits, quoted};

use crate::id_token::{IdToken, MAX_TOKEN};
use crate::json::{DocumentError, plain, text};
use crate::provider::{ClientAuthentication, Provider};
use crate::relying_party::RelyingParty;
use crate::sign_in::SignIn;
use crate::url::ProviderUrl;

/// An ID token, an access token and a refresh token.
const LIMITS: JsonLimits = JsonLimits {
    octets: 3 * MAX_TOKEN,
    depth: 8,
    values: 256,
    members: 64,
};

/// What is posted to the provider, as a form.
#[derive(Debug)]
pub struct TokenRequest<'p> {
    /// Where.
    pub url: &'p ProviderUrl,
    /// The value of the header field `Authorization`, if there is one.
    pub authorization: Option<SecretBytes>,
    /// The body.
    pub body: SecretBytes,
}

/// Why the provider gives no token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Not the answer of a provider. The provider is at fault.
    #[error("its answer for a code, with status {status}, can't be read: {error}")]
    Document {
        /// The status.
        status: u16,
        /// What is wrong with it.
        error: DocumentError,
    },
    /// It does not know this client, or the secret is another one. The configuration is at fault.
    #[error("it does not accept this client: {0}")]
    Client(String),
    /// It does not accept the code: it was used already, or is too old. The user has to begin again.
    #[error("it does not accept the code any more: {0}")]
    Grant(String),
    /// Another refusal.
    #[error("it refuses to give a token (status {status}): {reason}")]
    Refused {
        /// The status.
        status: u16,
        /// The code, and what it says for people.
        reason: String,
    },
}

/// Asks for the token of `sign_in`.
#[must_use]
pub fn token_request<'p>(
    party: &RelyingParty,
    provider: &'p Provider,
    sign_in: &SignIn,
    code: &SecretBytes,
) -> TokenRequest<'p> {
    let mut body = SecretForm::default();
    body.member("grant_type", b"authorization_code");
    body.member("code", code.expose());
    body.member("redirect_uri", sign_in.redirect_uri.as_bytes());
    body.member("code_verifier", sign_in.verifier.expose());
    let mut authorization = None;
    match (provider.authentication, &party.secret) {
        (ClientAuthentication::Basic, Some(secret)) => {
            authorization = Some(basic(&party.client_id, secret));
        }
        (ClientAuthentication::Post, Some(secret)) => {
            body.member("client_id", party.client_id.as_bytes());
            body.member("client_secret", secret.expose());
        }
        (ClientAuthentication::None, _) | (_, None) => {
            body.member("client_id", party.client_id.as_bytes());
        }
    }
    TokenRequest {
        url: &provider.token_endpoint,
        authorization,
        body: SecretBytes::new(body.0),
    }
}

/// Reads what the provider answers.
///
/// # Errors
/// See [`TokenError`].
pub fn read_token_answer(status: u16, body: &[u8]) -> Result<IdToken, TokenError> {
    let document = |error| TokenError::Document { status, error };
    let json = Json::read(body, &LIMITS).map_err(|error| document(error.into()))?;
    if status == 200 {
        let token = text(&json, "id_token").map_err(document)?;
        return Ok(IdToken::new(token));
    }
    let code = text(&json, "error").map_err(document)?;
    let description = json.member("error_description").and_then(Json::text);
    let reason = match description {
        Some(description) => format!("{}: {}", quoted(code), plain(description)),
        None => quoted(code),
    };
    Err(match code {
        "invalid_client" | "unauthorized_client" => TokenError::Client(reason),
        "invalid_grant" => TokenError::Grant(reason),
        _ => TokenError::Refused { status, reason },
    })
}

/// RFC 6749 section 2.3.1: both halves are encoded as in a form first.
fn basic(client_id: &str, secret: &SecretBytes) -> SecretBytes {
    let mut pair = SecretForm::default();
    pair.reserve(client_id.len() + secret.len());
    pair.encode(client_id.as_bytes());
    pair.0.push(b':');
    pair.encode(secret.expose());
    let pair = SecretBytes::new(pair.0);
    let encoded = SecretBytes::new(base64::encode(pair.expose()).into_bytes());
    let mut value = Vec::with_capacity(6 + encoded.len());
    value.extend_from_slice(b"Basic ");
    value.extend_from_slice(encoded.expose());
    SecretBytes::new(value)
}

/// A query string of members that are no secrets.
pub(crate) fn form(members: &[(&str, &str)]) -> String {
    let mut form = SecretForm::default();
    for (name, value) in members {
        form.member(name, value.as_bytes());
    }
    // It writes ASCII.
    String::from_utf8(form.0).unwrap_or_default()
}

/// `application/x-www-form-urlencoded`, of which no copy is left behind when it grows.
#[derive(Default)]
struct SecretForm(Vec<u8>);

impl SecretForm {
    fn member(&mut self, name: &str, value: &[u8]) {
        self.reserve(name.len() + value.len());
        if !self.0.is_empty() {
            self.0.push(b'&');
        }
        self.encode(name.as_bytes());
        self.0.push(b'=');
        self.encode(value);
    }

    /// Makes room for so many octets as they are encoded, and two separators.
    fn reserve(&mut self, octets: usize) {
        let needed = self.0.len() + 3 * octets + 2;
        if needed > self.0.capacity() {
            let mut larger = Vec::with_capacity(2 * needed);
            larger.extend_from_slice(&self.0);
            // Wiped as it is dropped.
            drop(SecretBytes::new(std::mem::replace(&mut self.0, larger)));
        }
    }

    fn encode(&mut self, octets: &[u8]) {
        const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
        for octet in octets {
            match octet {
                b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                    self.0.push(*octet)
                }
                _ => {
                    let (high, low) = (usize::from(octet >> 4), usize::from(octet & 15));
                    self.0.extend_from_slice(&[b'%', DIGITS[high], DIGITS[low]]);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_are_read_as_they_were_meant() {
        let members = [("a", "b c&d=e+%"), ("\u{e9}", "~._-"), ("", "")];
        let read: Vec<(String, String)> = serde_urlencoded::from_str(&form(&members)).unwrap();
        let meant = members.map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(read, meant);
    }

    /// RFC 6749 section 2.3.1 has the first; what is encoded there is so by RFC 7617 and the form.
    #[test]
    fn clients_prove_who_they_are_in_basic() {
        for (client, secret, value) in [
            (
                "s6BhdRkqt3",
                "7Fjfp0ZBr1KtDRbnfVdmIw",
                "Basic czZCaGRSa3F0Mzo3RmpmcDBaQnIxS3REUmJuZlZkbUl3",
            ),
            ("a:b", "c d", "Basic YSUzQWI6YyUyMGQ="),
        ] {
            let value_of = basic(client, &SecretBytes::from(secret.as_bytes()));
            assert_eq!(std::str::from_utf8(value_of.expose()).unwrap(), value);
        }
    }

    #[test]
    fn answers_name_who_is_at_fault() {
        let read = |status, body: &str| read_token_answer(status, body.as_bytes());
        assert!(
            read(
                200,
                r#"{"id_token":"a.b.c","access_token":"x","token_type":"Bearer"}"#
            )
            .is_ok()
        );
        for (status, body) in [
            (200, "{}"),
            (200, "[]"),
            (500, "<html>"),
            (400, r#"{"error":1}"#),
        ] {
            assert!(
                matches!(read(status, body), Err(TokenError::Document { .. })),
                "{body}"
            );
        }
        let refused = |code: &str| {
            read(
                400,
                &format!("{{\"error\":\"{code}\",\"error_description\":\"\\u001b[2Jno\"}}"),
            )
        };
        assert_eq!(
            refused("invalid_client"),
            Err(TokenError::Client("invalid_client: [2Jno".to_owned()))
        );
        assert!(matches!(
            refused("invalid_grant"),
            Err(TokenError::Grant(_))
        ));
        assert!(matches!(
            refused("server_error"),
            Err(TokenError::Refused { status: 400, .. })
        ));
    }
}
