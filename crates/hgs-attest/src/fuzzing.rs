//! Bodies of fuzz targets: any octets may come, and what is accepted must survive a second round.

use std::sync::LazyLock;

use hgs_crypto::SecretBytes;
use hgs_crypto::random::System;
use hgs_crypto::rsa::PrivateKey;
use hgs_pki::Time;
use hgs_pki::health::HealthKind;
use hgs_tcg::tpm::{Command, EndorsementKey, Public};

use crate::client::rtpm::{RtpmExchange, Step};

use crate::freshness::{FreshnessProof, Nonce, NonceKey};
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

/// Of some TPM.
static ENDORSEMENT_KEY: LazyLock<EndorsementKey> = LazyLock::new(|| {
    let key = PrivateKey::generate(2048).expect("a key");
    let template = Public::ek_template();
    let octets = template.octets();
    let public = [&octets[..octets.len() - 256], key.public().modulus()].concat();
    EndorsementKey::parse(&public).expect("made from the template")
});

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

fn nonce_key() -> NonceKey {
    NonceKey::new(&SecretBytes::new((0..32).collect()))
}
