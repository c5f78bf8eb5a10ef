//! What a guardian answers to a host that wants a token.

use hgs_pki::Time;
use serde_json::json;

use super::{Code, Issuer};
use crate::freshness::Nonce;
use crate::wire::{Json, JsonError, JsonLimits};

/// The limits of every answer: a token has about a kilobyte.
const LIMITS: JsonLimits = JsonLimits {
    octets: 32 * 1024,
    depth: 8,
    values: 64,
    members: 32,
};

/// Characters kept of what a service says for people.
const MAX_MESSAGE: usize = 500;

/// What a host needs for its request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Challenge {
    /// Who will issue the token.
    pub issuer: Issuer,
    /// What the host returns.
    pub nonce: Nonce,
}

/// A token as its host gets it. Whoever holds it is taken for the host until it expires, so it is not shown by `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub struct IssuedToken {
    /// The token: three texts of Base64 for URLs, with full stops between them.
    pub token: String,
    /// When it ends.
    pub expires: Time,
}

/// A refusal as a host gets it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// The code, where it is one of the table of section 14 of the profile.
    pub code: Option<Code>,
    /// The code as it was sent.
    pub name: String,
    /// For people.
    pub message: String,
    /// What the next request returns.
    pub nonce: Option<Nonce>,
}

/// Why octets are not an answer. Who sent them is at fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenReplyError {
    /// Not JSON, or over a limit.
    #[error(transparent)]
    Json(#[from] JsonError),
    /// A member is absent, or its value is not what it should be.
    #[error("the member `{0}` is absent, or is not what it should be")]
    Member(&'static str),
}

impl Challenge {
    /// The body.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        let body = json!({
            "Issuer": self.issuer.as_str(),
            "Nonce": self.nonce.to_header(),
        });
        body.to_string().into_bytes()
    }

    /// Reads a body.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn read(body: &[u8]) -> Result<Self, TokenReplyError> {
        let json = Json::read(body, &LIMITS)?;
        let issuer = text(&json, "Issuer")?.parse();
        Ok(Self {
            issuer: issuer.map_err(|_| TokenReplyError::Member("Issuer"))?,
            nonce: nonce(&json)?,
        })
    }
}

impl IssuedToken {
    /// The body.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        let body = json!({"Token": self.token, "Expires": self.expires.to_string()});
        body.to_string().into_bytes()
    }

    /// Reads a body. Of the token it looks at the form only: it is for the audience to verify.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn read(body: &[u8]) -> Result<Self, TokenReplyError> {
        let json = Json::read(body, &LIMITS)?;
        let token = text(&json, "Token")?;
        let parts: Vec<_> = token.split('.').collect();
        let is_part = |part: &&str| {
            let mut octets = part.bytes();
            !part.is_empty()
                && octets.all(|octet| octet.is_ascii_alphanumeric() || b"-_".contains(&octet))
        };
        if parts.len() != 3 || !parts.iter().all(is_part) {
            return Err(TokenReplyError::Member("Token"));
        }
        let expires = text(&json, "Expires")?.parse();
        Ok(Self {
            token: token.to_owned(),
            expires: expires.map_err(|_| TokenReplyError::Member("Expires"))?,
        })
    }
}

impl std::fmt::Debug for IssuedToken {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "IssuedToken(expires {})", self.expires)
    }
}

impl Refused {
    /// Reads a body that came with another status than 200.
    ///
    /// # Errors
    /// What is wrong with it: then it is not of this protocol.
    pub fn read(body: &[u8]) -> Result<Self, TokenReplyError> {
        let json = Json::read(body, &LIMITS)?;
        let detail = json.member("OpenHgs");
        let detail = detail.ok_or(TokenReplyError::Member("OpenHgs"))?;
        let name = plain(text(detail, "Code")?);
        Ok(Self {
            code: Code::ALL.into_iter().find(|code| code.name() == name),
            name,
            message: plain(text(detail, "Message")?),
            nonce: nonce(&json).ok(),
        })
    }
}

fn text<'j>(json: &'j Json<'_>, member: &'static str) -> Result<&'j str, TokenReplyError> {
    let text = json.member(member).and_then(Json::text);
    text.ok_or(TokenReplyError::Member(member))
}

fn nonce(json: &Json<'_>) -> Result<Nonce, TokenReplyError> {
    let text = text(json, "Nonce")?;
    Nonce::from_header(text).map_err(|_| TokenReplyError::Member("Nonce"))
}

/// Text of strangers, made fit for a terminal.
fn plain(text: &str) -> String {
    let shown = text.chars().filter(|character| !character.is_control());
    shown.take(MAX_MESSAGE).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_guardian_answers_is_read_as_it_was_meant_and_nothing_else_is() {
        let challenge = Challenge {
            issuer: "https://hgs.example".parse().unwrap(),
            nonce: Nonce::of(vec![1, 2, 3]),
        };
        assert_eq!(Challenge::read(&challenge.to_json()), Ok(challenge));
        let token = IssuedToken {
            token: "eyJ.e30.c2ln".to_owned(),
            expires: Time::from_unix(1_795_287_600),
        };
        assert_eq!(IssuedToken::read(&token.to_json()), Ok(token.clone()));
        assert!(!format!("{token:?}").contains("eyJ"));
        for wrong in ["eyJ.e30", "eyJ.e30.", "a.b.c.d", "a b.c.d", "a.b.c\n", ""] {
            let token = IssuedToken {
                token: wrong.to_owned(),
                ..token.clone()
            };
            let error = Err(TokenReplyError::Member("Token"));
            assert_eq!(IssuedToken::read(&token.to_json()), error, "{wrong:?}");
        }
        let nonce = Nonce::of(vec![4]);
        let refusal = super::super::TokenRefusal::NonceUsed;
        let read = Refused::read(&refusal.reply(Some(&nonce))).unwrap();
        assert_eq!(read.code, Some(Code::NonceUsed));
        assert_eq!(read.nonce, Some(nonce));
        let hostile = br#"{"OpenHgs":{"Code":"\u001b[2J","Message":"\u001b[31m!"}}"#;
        let read = Refused::read(hostile).unwrap();
        assert_eq!(
            (read.code, &*read.name, &*read.message),
            (None, "[2J", "[31m!")
        );
        assert!(Refused::read(b"{}").is_err());
    }
}
