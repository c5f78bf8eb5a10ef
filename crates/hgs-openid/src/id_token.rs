//! The ID token (OpenID Connect Core 1.0, section 2), a JSON Web Signature (RFC 7515) in compact form.

use std::fmt;

use hgs_crypto::base64;
use hgs_json::{Json, JsonLimits, quoted};
use hgs_pki::{Seconds, Time};

use crate::json::{DocumentError, plain, text};
use crate::keys::{Checked, KeySet, UnusableKey, shown};
use crate::relying_party::{Algorithm, RelyingParty};
use crate::sign_in::SignIn;

/// Octets of the longest token: some name hundreds of groups.
pub(crate) const MAX_TOKEN: usize = 64 * 1024;
/// Groups of one user.
const MAX_GROUPS: usize = 1024;
/// Octets of the longest name of a group, and of a user.
const MAX_NAME: usize = 256;

/// Headers may carry a chain of certificates, which is not read.
const HEADER: JsonLimits = JsonLimits {
    octets: 16 * 1024,
    depth: 4,
    values: 64,
    members: 32,
};

const CLAIMS: JsonLimits = JsonLimits {
    octets: MAX_TOKEN,
    depth: 8,
    values: 4096,
    members: 128,
};

/// An ID token of which nothing is verified. Whoever holds it may be taken for the user, so it is not shown.
#[derive(Clone, PartialEq, Eq)]
pub struct IdToken(String);

/// A user of whom the provider vouches that it is there now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// What the provider calls the user, and never another one.
    pub subject: String,
    /// What people call the user. Another user may have the same name.
    pub name: Option<String>,
    /// The groups of the user.
    pub groups: Vec<String>,
}

/// Why an ID token is not believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdTokenError {
    /// Longer than any should be.
    #[error("its ID token has {0} octets; {MAX_TOKEN} are accepted")]
    TooLong(usize),
    /// Five parts.
    #[error("its ID token is encrypted")]
    Encrypted,
    /// Not three parts of Base64 for URLs.
    #[error("its ID token is not a JSON Web Signature in compact form")]
    Form,
    /// The header is not one.
    #[error("the header of its ID token can't be read: {0}")]
    Header(DocumentError),
    /// Another algorithm than those that the configuration names.
    #[error("its ID token is signed with `{found}`, and the configuration names {configured}")]
    Algorithm {
        /// What the header says.
        found: String,
        /// Those of the configuration.
        configured: String,
    },
    /// An extension that has to be understood.
    #[error("its ID token has an extension that has to be understood (`crit`)")]
    Critical,
    /// A token for something else.
    #[error("its ID token has the type `{0}`")]
    Type(String),
    /// The provider publishes no such key.
    #[error("its ID token is signed with the key {0}, which it does not publish")]
    UnknownKey(String),
    /// The token names no key, and the provider publishes several.
    #[error("its ID token does not say which of its keys signed it")]
    KeyNotNamed,
    /// The key is not secure, or none.
    #[error("its ID token is signed with the key {kid}, which can't be used: {error}")]
    UnusableKey {
        /// The name of the key.
        kid: String,
        /// Why.
        error: UnusableKey,
    },
    /// The key did not sign this.
    #[error("the signature of its ID token is not by the key {0}")]
    Signature(String),
    /// What was signed does not hold here.
    #[error(transparent)]
    Claim(#[from] ClaimError),
}

/// Why a token that the provider signed signs nobody in here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ClaimError {
    /// Not claims.
    #[error("the claims of its ID token can't be read: {0}")]
    Document(#[from] DocumentError),
    /// Another provider.
    #[error("its ID token was issued by `{found}`")]
    Issuer {
        /// Who.
        found: String,
    },
    /// For another client.
    #[error("its ID token is not for this client, but for `{found}`")]
    Audience {
        /// For whom.
        found: String,
    },
    /// Given to another client.
    #[error("its ID token was given to the client `{found}`")]
    AuthorisedParty {
        /// To whom.
        found: String,
    },
    /// For several clients, and it does not say to which it was given.
    #[error(
        "its ID token is for several clients and does not say to which of them it was given (`azp`)"
    )]
    NoAuthorisedParty,
    /// Its time is over.
    #[error("its ID token expired at {expired}; here it is {now}")]
    Expired {
        /// When.
        expired: Time,
        /// The time here.
        now: Time,
    },
    /// Its time has not come, or it is of an earlier sign-in.
    #[error("its ID token is of {issued}; here it is {now}, and the sign-in began at {began}")]
    Issued {
        /// The latest of what it says.
        issued: Time,
        /// The time here.
        now: Time,
        /// When the user was sent to the provider.
        began: Time,
    },
    /// Of another sign-in.
    #[error("its ID token is of another sign-in (`nonce`)")]
    Nonce,
    /// The provider has not asked the user lately, or does not say when.
    #[error("it does not say that it asked the user within the last {} seconds (`auth_time`)", max_age.get())]
    AuthenticationTime {
        /// What the configuration demands.
        max_age: Seconds,
    },
    /// There are more groups than fit into the token.
    #[error("the user is in too many groups for an ID token: the provider left `{0}` out")]
    GroupsLeftOut(String),
    /// The groups are not an array of texts.
    #[error("the claim `{0}` is neither a text nor an array of at most {MAX_GROUPS} texts")]
    Groups(String),
}

impl IdToken {
    pub(crate) fn new(token: &str) -> Self {
        Self(token.to_owned())
    }

    /// The user that this token is about, if it was signed by one of `keys` for `sign_in`, and holds now.
    ///
    /// # Errors
    /// The first reason not to believe it.
    pub fn verify(
        &self,
        party: &RelyingParty,
        keys: &KeySet,
        sign_in: &SignIn,
        now: Time,
    ) -> Result<User, IdTokenError> {
        let claims = self.signed_claims(&party.algorithms, keys)?;
        let json = Json::read(&claims, &CLAIMS).map_err(DocumentError::from);
        let json = json.map_err(ClaimError::from)?;
        Claims(&json).check(party, sign_in, now)?;
        Ok(Claims(&json).user(party)?)
    }

    /// What was signed, of which nothing is checked but the signature.
    pub(crate) fn signed_claims(
        &self,
        algorithms: &[Algorithm],
        keys: &KeySet,
    ) -> Result<Vec<u8>, IdTokenError> {
        if self.0.len() > MAX_TOKEN {
            return Err(IdTokenError::TooLong(self.0.len()));
        }
        let parts: Vec<_> = self.0.splitn(6, '.').collect();
        let [header, claims, signature] = parts[..] else {
            return Err(match parts.len() {
                5 => IdTokenError::Encrypted,
                _ => IdTokenError::Form,
            });
        };
        let decode = |part| base64::decode_url(part).map_err(|_| IdTokenError::Form);
        let (algorithm, kid) = read_header(&decode(header)?, algorithms)?;
        let signed = &self.0.as_bytes()[..header.len() + 1 + claims.len()];
        let (claims, signature) = (decode(claims)?, decode(signature)?);
        let kid = kid.as_deref();
        match keys.check(algorithm, kid, signed, &signature) {
            Checked::Good => Ok(claims),
            Checked::Bad => Err(IdTokenError::Signature(shown(kid))),
            Checked::UnknownKey => Err(IdTokenError::UnknownKey(shown(kid))),
            Checked::Ambiguous => Err(IdTokenError::KeyNotNamed),
            Checked::Unusable(error) => Err(IdTokenError::UnusableKey {
                kid: shown(kid),
                error,
            }),
        }
    }
}

impl IdTokenError {
    /// Whether the provider may have changed its keys since they were fetched.
    #[must_use]
    pub fn may_be_of_new_key(&self) -> bool {
        matches!(
            self,
            Self::UnknownKey(_) | Self::Signature(_) | Self::UnusableKey { .. }
        )
    }
}

impl fmt::Debug for IdToken {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("IdToken(..)")
    }
}

/// The algorithm and the name of the key. Keys in a header (`jwk`, `jku`, `x5c`, `x5u`) are not looked at.
fn read_header(
    octets: &[u8],
    algorithms: &[Algorithm],
) -> Result<(Algorithm, Option<String>), IdTokenError> {
    let header = |error| IdTokenError::Header(error);
    let json = Json::read(octets, &HEADER).map_err(|error| header(error.into()))?;
    let found = text(&json, "alg").map_err(header)?;
    let algorithm = algorithms
        .iter()
        .find(|algorithm| algorithm.name() == found);
    let algorithm = algorithm.ok_or_else(|| IdTokenError::Algorithm {
        found: quoted(found),
        configured: names(algorithms),
    })?;
    if json.member("crit").is_some() {
        return Err(IdTokenError::Critical);
    }
    // Tokens for something else say so (RFC 8725 section 3.11).
    if json.member("typ").is_some() {
        let kind = text(&json, "typ").map_err(header)?;
        if !kind.eq_ignore_ascii_case("JWT") {
            return Err(IdTokenError::Type(quoted(kind)));
        }
    }
    let kid = match json.member("kid") {
        None => None,
        Some(_) => Some(text(&json, "kid").map_err(header)?.to_owned()),
    };
    Ok((*algorithm, kid))
}

fn names(algorithms: &[Algorithm]) -> String {
    let names: Vec<_> = algorithms.iter().map(|it| it.name()).collect();
    names.join(", ")
}

struct Claims<'j, 't>(&'j Json<'t>);

impl Claims<'_, '_> {
    fn check(&self, party: &RelyingParty, sign_in: &SignIn, now: Time) -> Result<(), ClaimError> {
        let issuer = text(self.0, "iss")?;
        if issuer != party.issuer.as_str() {
            return Err(ClaimError::Issuer {
                found: quoted(issuer),
            });
        }
        self.check_audience(&party.client_id)?;
        self.check_times(party, sign_in.began, now)?;
        match text(self.0, "nonce")? == sign_in.nonce {
            true => Ok(()),
            false => Err(ClaimError::Nonce),
        }
    }

    fn check_audience(&self, client_id: &str) -> Result<(), ClaimError> {
        let expected = "a text or an array of texts";
        let member = DocumentError::Member {
            member: "aud",
            expected,
        };
        let audiences: Vec<_> = match self.0.member("aud") {
            Some(Json::Text(audience)) => vec![&**audience],
            Some(Json::Array(values)) => {
                let texts: Option<_> = values.iter().map(Json::text).collect();
                texts.ok_or(member)?
            }
            _ => return Err(member.into()),
        };
        if !audiences.contains(&client_id) {
            return Err(ClaimError::Audience {
                found: quoted(&audiences.join(", ")),
            });
        }
        match self.0.member("azp") {
            None if audiences.len() > 1 => Err(ClaimError::NoAuthorisedParty),
            None => Ok(()),
            Some(_) => match text(self.0, "azp")? {
                found if found == client_id => Ok(()),
                found => Err(ClaimError::AuthorisedParty {
                    found: quoted(found),
                }),
            },
        }
    }

    fn check_times(&self, party: &RelyingParty, began: Time, now: Time) -> Result<(), ClaimError> {
        let tolerance = party.clock_tolerance;
        let later = |time: Time, by| time.checked_add(by).unwrap_or(Time::MAX);
        let expired = self.time("exp")?;
        if later(expired, tolerance) <= now {
            return Err(ClaimError::Expired { expired, now });
        }
        let issued = self.time("iat")?;
        let begins = match self.0.member("nbf") {
            None => issued,
            Some(_) => self.time("nbf")?.max(issued),
        };
        if later(issued, tolerance) < began || begins > later(now, tolerance) {
            return Err(ClaimError::Issued {
                issued: begins,
                now,
                began,
            });
        }
        let Some(max_age) = party.max_age else {
            return Ok(());
        };
        let asked = self.0.member("auth_time").map(|_| self.time("auth_time"));
        let holds = |asked: Time| later(later(asked, max_age), tolerance) > now;
        match asked.transpose()?.is_some_and(holds) {
            true => Ok(()),
            false => Err(ClaimError::AuthenticationTime { max_age }),
        }
    }

    fn time(&self, member: &'static str) -> Result<Time, ClaimError> {
        let seconds = self.0.member(member).and_then(Json::unsigned);
        let seconds = seconds.and_then(|seconds| i64::try_from(seconds).ok());
        let seconds = seconds.filter(|seconds| *seconds <= Time::MAX.unix());
        let expected = "whole seconds since 1970";
        let seconds = seconds.ok_or(DocumentError::Member { member, expected })?;
        Ok(Time::from_unix(seconds))
    }

    fn user(&self, party: &RelyingParty) -> Result<User, ClaimError> {
        let subject = text(self.0, "sub")?;
        let is_plain = subject
            .bytes()
            .all(|octet| octet.is_ascii_graphic() || octet == b' ');
        if !is_plain || !(1..MAX_NAME).contains(&subject.len()) {
            let expected = "1 to 255 printable characters of ASCII";
            let member = "sub";
            return Err(DocumentError::Member { member, expected }.into());
        }
        let names = ["preferred_username", "email", "name"];
        let mut names = names.iter().filter_map(|name| self.0.member(name)?.text());
        let name = names.find(|name| (1..=MAX_NAME).contains(&name.len()));
        Ok(User {
            subject: subject.to_owned(),
            name: name.map(plain),
            groups: self.groups(&party.groups_claim)?,
        })
    }

    /// A user without such a claim is in no group.
    fn groups(&self, claim: &str) -> Result<Vec<String>, ClaimError> {
        let groups: Option<Vec<_>> = match self.0.member(claim) {
            // Section 5.6.2: claims that are elsewhere. Microsoft's Entra ID does so with many groups.
            None => match self
                .0
                .member("_claim_names")
                .and_then(|it| it.member(claim))
            {
                Some(_) => return Err(ClaimError::GroupsLeftOut(claim.to_owned())),
                None => Some(Vec::new()),
            },
            Some(Json::Text(group)) => Some(vec![&**group]),
            Some(Json::Array(groups)) => groups.iter().map(Json::text).collect(),
            Some(_) => None,
        };
        let groups = groups.filter(|groups| groups.len() <= MAX_GROUPS);
        let groups = groups.ok_or_else(|| ClaimError::Groups(claim.to_owned()))?;
        Ok(groups.into_iter().map(str::to_owned).collect())
    }
}
