//! Bodies of fuzz targets: any octets may come, and what is accepted must survive a second round.

use std::sync::LazyLock;

use hgs_crypto::random::System;
use hgs_crypto::{SecretBytes, hex};
use hgs_pki::health::{HealthKind, TrustedSigners};
use hgs_pki::{Seconds, Time};
use hgs_tcg::tpm::{Command, EndorsementKey, Public};

use crate::client::rtpm::{RtpmExchange, Step};

use crate::freshness::{FreshnessProof, Nonce, NonceKey};
use crate::health_token::{
    Challenge, IssuedToken, Issuer, Refused, TokenAttempt, TokenNonceKey, TokenRequest, prove,
};
use crate::host_key::evaluate;
use crate::mode::{Attempt, Mode as _};
use crate::platform_identity::PlatformIdentity;
use crate::registry::{CredentialId, HostRegistry, RegisteredHost};
use crate::rtpm::{Context, ContextKey, IdentityPcrs, TpmMode, fuzz_state};
use crate::verdict::Verdict;
use crate::wire::{Reply, Request, SessionId, TpmReplyContinue};
use crate::{client, signing_certificates};

/// [`Request::parse`], and what both modes make of it for a host that is not registered.
///
/// # Panics
///
/// If a request is not read again as it was written, or if a stranger is found healthy.
pub fn fuzz_request(data: &[u8]) {
    if let Ok(request) = Request::parse(data) {
        assert_eq!(Request::parse(&request.to_json()), Ok(request));
    }
    let nonces = nonce_key();
    let attempt = Attempt {
        body: data,
        proof: None,
        nonces: &nonces,
        require_nonce: false,
        now: Time::from_unix(0),
    };
    let contexts = ContextKey::new(SecretBytes::new((1..33).collect()));
    let tpm = TpmMode::new(contexts, IdentityPcrs::default());
    for verdict in [
        evaluate(&attempt, &NoHosts),
        tpm.evaluate(&attempt, &NoHosts, &mut System::new()),
    ] {
        match verdict {
            Verdict::Healthy(_) | Verdict::Continue(_) => panic!("no host is registered"),
            Verdict::Refused(refusal) => {
                let reply = refusal.reply();
                assert_eq!(Reply::parse(&reply.to_json()).as_ref(), Ok(&reply));
            }
        }
    }
    let _ = crate::rtpm::credential_of_beginning(data);
}

/// [`Context::read`], the state that is sealed in one, and what a host does that gets such a context at the beginning of an
/// exchange.
///
/// # Panics
///
/// If a context is not read again as it was written, or if the host is ready to execute what needs something that it has not
/// made.
pub fn fuzz_rtpm_context(data: &[u8]) {
    if let Ok(context) = Context::read(data) {
        assert_eq!(Context::read(&context.octets()).as_ref(), Ok(&context));
    }
    fuzz_state(&SecretBytes::from(data));
    let session = SessionId([0; 16]);
    let mut exchange = RtpmExchange::start(
        session,
        HealthKind::Encryption,
        ENDORSEMENT_KEY.clone(),
        None,
    );
    let reply = Reply::TpmContinue(TpmReplyContinue {
        rtpm_active_context: data.to_vec(),
    });
    let Ok(step) = exchange.receive(200, &reply.to_json()) else {
        assert_eq!(exchange.next_command(), None);
        return;
    };
    assert!(matches!(step, Step::Execute));
    while let Some(command) = exchange.next_command() {
        assert!(matches!(command, Command::CreatePrimary(_)), "{command:?}");
        assert!(exchange.executed(Vec::new()).is_err());
    }
}

/// Of no TPM: a modulus whose factors were thrown away.
static ENDORSEMENT_KEY: LazyLock<EndorsementKey> = LazyLock::new(|| {
    let template = Public::ek_template();
    let octets = template.octets();
    let modulus = hex::decode(MODULUS).expect("hexadecimal");
    let public = [&octets[..octets.len() - 256], &modulus].concat();
    EndorsementKey::parse(&public).expect("made from the template")
});

const MODULUS: &str = "ec1ed73accd4a2f3c7eaeed92c518ab84823cfdee4f736ed9c6eeccf5a381379667b5e46f7cfa27ee89388ec48da1e99\
    429a2539fd310cb4242a2a16a749cb59481f2995f39fcbdf867e0eff09157ea59678c9f6c716c3cd48eeebb1085737a3\
    9707c0634a632abd09e518a987b3a99e5186251904948d0a3066e2234b5e82e88f8b3b1a3469d6a3ef9517ffdeaf6ccf\
    5db7507dcf072e5d415409209252c0ab986e2d6fce3f5049b19bffb5fda7cc784c8d10b7f75ab6b4822d078ae3fb1c57\
    5aebd744fa0e812d8df00b00d4766e264c5f51ce0d3ab553259a22fb4423a1ecaf35a1a3ff6b92fff0404099f510f942\
    d169719c324b7f30d0bc228647031513";

struct NoHosts;

impl HostRegistry for NoHosts {
    fn host_with(&self, _: &CredentialId) -> Option<RegisteredHost> {
        None
    }
}

/// [`Reply::parse`], as a host reads it.
///
/// # Panics
///
/// If a reply is not read again as it was written.
pub fn fuzz_reply(data: &[u8]) {
    if let Ok(reply) = Reply::parse(data) {
        assert_eq!(Reply::parse(&reply.to_json()), Ok(reply));
    }
    let _ = client::read_service_info(200, data);
}

/// [`signing_certificates::read`].
///
/// # Panics
///
/// If the certificates are not read again as they were written.
pub fn fuzz_signing_certificates(data: &[u8]) {
    let Ok(mut certificates) = signing_certificates::read(data) else {
        return;
    };
    let again = signing_certificates::read(&signing_certificates::write(&certificates));
    // They are a set: sorted, and none twice.
    certificates.sort_by(|a, b| a.der().cmp(b.der()));
    certificates.dedup();
    assert_eq!(again, Ok(certificates));
}

/// [`PlatformIdentity::from_json`].
///
/// # Panics
///
/// If an identity is not read again as it was written.
pub fn fuzz_platform_identity(data: &[u8]) {
    if let Ok(identity) = PlatformIdentity::from_json(data) {
        assert_eq!(
            PlatformIdentity::from_json(&identity.to_json()),
            Ok(identity)
        );
    }
}

/// The headers of freshness, as a server and as a host reads them.
///
/// # Panics
///
/// If a value is not read again as it was written, or if a nonce of a stranger is accepted.
pub fn fuzz_freshness(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    if let Ok(nonce) = Nonce::from_header(text) {
        assert_eq!(Nonce::from_header(&nonce.to_header()).as_ref(), Ok(&nonce));
        assert!(nonce_key().check(&nonce, Time::from_unix(0)).is_err());
    }
    if let Ok(proof) = FreshnessProof::from_header(text) {
        assert_eq!(FreshnessProof::from_header(&proof.to_header()), Ok(proof));
    }
}

/// What a host sends for a health token, and what it is answered.
///
/// # Panics
///
/// If a request or an answer is not read again as it was written, or if a stranger proves to be a host.
pub fn fuzz_health_token(data: &[u8]) {
    if let Ok(request) = TokenRequest::parse(data) {
        assert_eq!(TokenRequest::parse(&request.to_json()), Ok(request));
    }
    let attempt = TokenAttempt {
        body: data,
        issuer: &ISSUER,
        nonces: &TokenNonceKey::new(&SecretBytes::new((0..32).collect())),
        signers: &TrustedSigners::default(),
        now: Time::from_unix(0),
        skew: Seconds::new(60),
    };
    assert!(prove(&attempt).is_err(), "nobody is trusted");
    if let Ok(challenge) = Challenge::read(data) {
        assert_eq!(Challenge::read(&challenge.to_json()), Ok(challenge));
    }
    if let Ok(issued) = IssuedToken::read(data) {
        assert_eq!(IssuedToken::read(&issued.to_json()), Ok(issued));
    }
    let _ = Refused::read(data);
}

static ISSUER: LazyLock<Issuer> =
    LazyLock::new(|| "https://hgs.example".parse().expect("an issuer"));

fn nonce_key() -> NonceKey {
    NonceKey::new(&SecretBytes::new((0..32).collect()))
}
