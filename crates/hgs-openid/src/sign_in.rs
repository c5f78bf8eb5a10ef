//! Users on their way to the provider and back.

use std::collections::VecDeque;
use std::fmt;

use hgs_crypto::hash::{Sha256Digest, sha256};
use hgs_crypto::random::{self, Random};
use hgs_crypto::{CryptoError, SecretBytes, base64};
use hgs_pki::{Seconds, Time};

use crate::callback::{Callback, CallbackError};
use crate::provider::Provider;
use crate::relying_party::RelyingParty;
use crate::token::form;

/// How long a user may take at the provider.
pub const SIGN_IN_TIME: Seconds = Seconds::from_minutes(5);

/// Users on their way at once: one more ends the oldest of all.
const MAX_SIGN_INS: usize = 1024;
/// Those from one address: one more ends the oldest of them.
const MAX_OF_ADDRESS: usize = 16;
/// Octets of what nobody can guess.
const SECRET_OCTETS: usize = 32;

/// The sign-ins that began at one server and have not come back. Each comes back once, in the browser where it began.
#[derive(Debug, Default)]
pub struct SignIns(VecDeque<SignIn>);

/// One user on the way.
pub struct SignIn {
    browser: Sha256Digest,
    state: Sha256Digest,
    pub(crate) nonce: String,
    /// The text whose digest the provider got first (RFC 7636).
    pub(crate) verifier: SecretBytes,
    /// Where the provider sends the browser back to.
    pub(crate) redirect_uri: String,
    address: String,
    pub(crate) began: Time,
}

/// What the browser keeps until it comes back.
pub struct BrowserSecret(String);

impl BrowserSecret {
    /// The value of the cookie.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for BrowserSecret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("BrowserSecret(..)")
    }
}

impl fmt::Debug for SignIn {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "SignIn(from {}, {})", self.address, self.began)
    }
}

impl SignIns {
    /// A browser at `address` begins: what it keeps, and where it is sent. The provider sends it back to `redirect_uri`.
    ///
    /// # Errors
    /// When there is no randomness.
    pub fn begin(
        &mut self,
        party: &RelyingParty,
        provider: &Provider,
        redirect_uri: &str,
        address: &str,
        now: Time,
        random: &mut dyn Random,
    ) -> Result<(BrowserSecret, String), CryptoError> {
        let mut draw = || random::array::<SECRET_OCTETS>(random).map(|it| base64::encode_url(&it));
        let (browser, state, nonce, verifier) = (draw()?, draw()?, draw()?, draw()?);
        let challenge = base64::encode_url(&sha256(verifier.as_bytes()));
        let members = [
            ("redirect_uri", redirect_uri),
            ("state", &state),
            ("nonce", &nonce),
            ("code_challenge", &challenge),
        ];
        let url = authorisation_url(party, provider, &members);
        self.make_room(address, now);
        self.0.push_back(SignIn {
            browser: sha256(browser.as_bytes()),
            state: sha256(state.as_bytes()),
            nonce,
            verifier: SecretBytes::new(verifier.into_bytes()),
            redirect_uri: redirect_uri.to_owned(),
            address: address.to_owned(),
            began: now,
        });
        Ok((BrowserSecret(browser), url))
    }

    /// A browser comes back with this secret; it can't do so again. Answers with what began there, and with the code for
    /// which the provider gives the token.
    ///
    /// # Errors
    /// When nothing began there, when the provider refuses, or when another provider answers.
    pub fn finish(
        &mut self,
        secret: Option<&str>,
        callback: &Callback,
        party: &RelyingParty,
        provider: &Provider,
        now: Time,
    ) -> Result<(SignIn, SecretBytes), CallbackError> {
        self.forget_old(now);
        let secret = secret.ok_or(CallbackError::NoCookie)?;
        let browser = sha256(secret.as_bytes());
        let state = sha256(callback.state.as_bytes());
        let of_browser = |sign_in: &SignIn| sign_in.browser == browser;
        let found = self
            .0
            .iter()
            .position(of_browser)
            .ok_or(CallbackError::NotBegun)?;
        // Whoever does not know the state has not been at the provider: the user may still come back.
        if self.0[found].state != state {
            return Err(CallbackError::OtherState);
        }
        let sign_in = self.0.remove(found).ok_or(CallbackError::NotBegun)?;
        let code = callback.code(party, provider)?;
        Ok((sign_in, code))
    }

    fn forget_old(&mut self, now: Time) {
        let holds = |sign_in: &SignIn| {
            let end = sign_in.began.checked_add(SIGN_IN_TIME);
            end.is_some_and(|end| now < end)
        };
        self.0.retain(holds);
    }

    fn make_room(&mut self, address: &str, now: Time) {
        self.forget_old(now);
        let of_address = |sign_in: &&SignIn| sign_in.address == address;
        if self.0.iter().filter(of_address).count() >= MAX_OF_ADDRESS {
            let oldest = self.0.iter().position(|sign_in| sign_in.address == address);
            oldest.and_then(|oldest| self.0.remove(oldest));
        } else if self.0.len() >= MAX_SIGN_INS {
            self.0.pop_front();
        }
    }
}

/// Where the browser is sent (OpenID Connect Core 1.0, section 3.1.2.1), with `own` of this sign-in.
fn authorisation_url(party: &RelyingParty, provider: &Provider, own: &[(&str, &str)]) -> String {
    let endpoint = &provider.authorization_endpoint;
    let scopes = std::iter::once("openid").chain(party.scopes.iter().map(String::as_str));
    let scope = scopes.collect::<Vec<_>>().join(" ");
    let max_age = party.max_age.map(|it| it.get().to_string());
    let mut members = vec![
        ("response_type", "code"),
        ("client_id", &party.client_id),
        ("scope", &scope),
        ("code_challenge_method", "S256"),
    ];
    members.extend_from_slice(own);
    members.extend(max_age.as_deref().map(|it| ("max_age", it)));
    let separator = if endpoint.has_query() { '&' } else { '?' };
    format!("{endpoint}{separator}{}", form(&members))
}
