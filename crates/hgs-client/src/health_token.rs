//! Asking for a health token: a signed statement about this host for a program that speaks neither protocol.

use bytes::Bytes;
use hgs_attest::health_token::{
    Audience, Challenge, Code, IssuedToken, Issuer, PATH, Refused, TokenReplyError, TokenRequest,
};
use hgs_custody::KeyError;
use hgs_pki::Time;
use hgs_pki::health::HealthKind;

use crate::attestation::JSON;
use crate::certify::{Certified, Certifier, RequiredCertificate, blocking};
use crate::error::Error;
use crate::host::{GuardedHost, ServiceFailures};
use crate::http::Request;
use crate::request_id::RequestId;
use crate::service::{Answer, Cause, Side, Sides};
use crate::url::Url;

/// How often a request is made with the nonce of a refusal: another node may have handed out the one before.
const ATTEMPTS: usize = 3;

/// A token that a guardian has issued for this host. Whoever holds it is taken for the host.
#[derive(Debug, Clone)]
pub struct HealthToken {
    /// The service that issued it.
    pub side: Side,
    /// The first URL of that service.
    pub attestation: Url,
    /// The id that the service gave the request.
    pub request_id: Option<RequestId>,
    /// Who it names as its issuer.
    pub issuer: Issuer,
    /// For whom it is.
    pub audience: Audience,
    issued: IssuedToken,
}

/// What a guardian answered instead of a token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HealthTokenFailure {
    /// It refused.
    #[error("{} ({})", .0.message, .0.name)]
    Refused(Refused),
    /// The reply is not of this protocol: perhaps that of an earlier version, of a proxy, or of another service.
    #[error(
        "reply with HTTP status {status} is not one of a guardian that issues health tokens: {error}"
    )]
    Unintelligible {
        /// The HTTP status.
        status: u16,
        /// What is wrong with the body.
        error: TokenReplyError,
    },
    /// The identity key does not sign.
    #[error("the identity key can't sign: {0}")]
    Key(KeyError),
    /// The service has another idea of which key the certificate is over.
    #[error("the identity key is not that of the health certificate")]
    OtherKey,
}

impl HealthToken {
    /// The token, as its audience takes it.
    #[must_use]
    pub fn token(&self) -> &str {
        &self.issued.token
    }

    /// When it ends.
    #[must_use]
    pub fn expires(&self) -> Time {
        self.issued.expires
    }
}

impl HealthTokenFailure {
    /// The code of the refusal, where it is one.
    #[must_use]
    pub fn code(&self) -> Option<Code> {
        match self {
            Self::Refused(refused) => refused.code,
            _ => None,
        }
    }

    /// Whether this is a decision, and not a failure of the service. Tokens of another service would be for another issuer.
    #[must_use]
    pub fn is_decision(&self) -> bool {
        self.is_about_host()
            || matches!(
                self.code(),
                Some(Code::TokensNotEnabled | Code::AudienceNotAllowed)
            )
    }

    /// Whether it is this host that is refused.
    #[must_use]
    pub fn is_about_host(&self) -> bool {
        let code = self.code();
        matches!(code, Some(Code::HostRevoked | Code::HostNotRegistered))
    }

    /// Whether the service could not decide.
    pub(crate) fn is_away(&self) -> bool {
        match self {
            Self::Refused(refused) => refused.code == Some(Code::Unavailable),
            Self::Unintelligible { status, .. } => *status >= 500,
            Self::Key(_) | Self::OtherKey => false,
        }
    }

    fn of_reply(status: u16, body: &[u8]) -> Self {
        match Refused::read(body) {
            Ok(refused) => Self::Refused(refused),
            Err(error) => Self::Unintelligible { status, error },
        }
    }
}

impl GuardedHost {
    /// Attests for signing if need be, and asks for a token for `audience`.
    ///
    /// # Errors
    /// [`Error::Services`] with the refusal or failure; and everything that keeps a host from asking.
    pub async fn health_token(
        &self,
        audience: &Audience,
        sides: Sides,
    ) -> Result<HealthToken, Error> {
        let token = self.health_token_of(audience, sides).await;
        match token {
            Err(error) => Err(self.after_refusal(error, None).await),
            token => token,
        }
    }

    async fn health_token_of(
        &self,
        audience: &Audience,
        sides: Sides,
    ) -> Result<HealthToken, Error> {
        let mut failures = ServiceFailures::default();
        for (side, endpoints) in self.services(sides)? {
            let certifier = self.certifier(side, endpoints)?;
            let attestation = endpoints.attestation.first();
            match certifier.health_token(audience).await? {
                Ok((issuer, issued)) => {
                    return Ok(HealthToken {
                        side,
                        request_id: certifier.conversation.request_id(),
                        attestation: attestation.clone(),
                        issuer,
                        audience: audience.clone(),
                        issued,
                    });
                }
                Err(cause) => failures.add(certifier.failure(attestation, cause))?,
            }
        }
        Err(failures.into_error())
    }
}

impl Certifier<'_> {
    /// A token of this service. Where an older certificate does not do, the host attests anew, once.
    async fn health_token(
        &self,
        audience: &Audience,
    ) -> Result<Answer<(Issuer, IssuedToken)>, Error> {
        let certified = match self
            .certify(HealthKind::Signing, RequiredCertificate::Valid)
            .await?
        {
            Ok(certified) => certified,
            Err(cause) => return Ok(Err(cause)),
        };
        let answer = self.ask_for_token(&certified, audience).await?;
        let Err(cause @ Cause::HealthToken(failure)) = &answer else {
            return Ok(answer);
        };
        if failure.code() == Some(Code::HostRevoked) {
            self.forget_certificates(cause).await?;
            return Ok(answer);
        }
        let needs_attestation = failure.code().is_some_and(Code::needs_new_attestation);
        let required = match certified.key.is_void() {
            true => RequiredCertificate::WithNewIdentityKey,
            false if needs_attestation && certified.held => RequiredCertificate::New,
            false => return Ok(answer),
        };
        tracing::warn!(%failure, "no health token for the last attestation; attesting again");
        match self.certify(HealthKind::Signing, required).await? {
            Ok(certified) => self.ask_for_token(&certified, audience).await,
            Err(cause) => Ok(Err(cause)),
        }
    }

    async fn ask_for_token(
        &self,
        certified: &Certified,
        audience: &Audience,
    ) -> Result<Answer<(Issuer, IssuedToken)>, Error> {
        let urls = self.attestation.join(PATH);
        let response = match self
            .conversation
            .send(&Request::Get { urls: urls.clone() })
            .await
        {
            Ok(response) => response,
            Err(error) => return Ok(Err(error.into())),
        };
        let (status, body) = (response.status, &response.body);
        let Challenge { issuer, mut nonce } = match status {
            200 => match Challenge::read(body) {
                Ok(challenge) => challenge,
                Err(error) => {
                    return Ok(Err(
                        HealthTokenFailure::Unintelligible { status, error }.into()
                    ));
                }
            },
            _ => return Ok(Err(HealthTokenFailure::of_reply(status, body).into())),
        };
        let mut attempts = 0;
        loop {
            attempts += 1;
            let prepared =
                TokenRequest::prepare(&issuer, audience.clone(), nonce, &certified.certificate);
            let key = certified.key.private();
            let to_be_signed = prepared.to_be_signed().to_vec();
            let scheme = prepared.scheme();
            // A TPM takes its time.
            let signed = blocking(move || Ok::<_, Error>(key.sign(scheme, &to_be_signed))).await?;
            let signature = match signed {
                Ok(signature) => signature,
                Err(error) => return Ok(Err(HealthTokenFailure::Key(error).into())),
            };
            let Ok(request) = prepared.assemble(signature) else {
                return Ok(Err(HealthTokenFailure::OtherKey.into()));
            };
            let posted = Request::Post {
                urls: urls.clone(),
                content_type: JSON,
                fields: Vec::new(),
                body: Bytes::from(request.to_json()),
            };
            let response = match self.conversation.send(&posted).await {
                Ok(response) => response,
                Err(error) => return Ok(Err(error.into())),
            };
            let (status, body) = (response.status, &response.body);
            if status == 200 {
                let issued = IssuedToken::read(body).map_err(|error| {
                    Cause::from(HealthTokenFailure::Unintelligible { status, error })
                });
                return Ok(issued.map(|issued| (issuer, issued)));
            }
            let failure = HealthTokenFailure::of_reply(status, body);
            nonce = match &failure {
                HealthTokenFailure::Refused(Refused {
                    code: Some(code),
                    nonce: Some(nonce),
                    ..
                }) if code.needs_new_nonce() && attempts < ATTEMPTS => nonce.clone(),
                _ => return Ok(Err(failure.into())),
            };
        }
    }
}
