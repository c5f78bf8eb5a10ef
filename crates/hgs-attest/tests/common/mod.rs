//! A registry of hosts, and short ways to requests, that the tests share.
#![allow(dead_code, reason = "each test program uses its own part")]

pub(crate) mod tpm;

use std::collections::BTreeMap;
use std::sync::Arc;

use hgs_attest::freshness::NonceKey;
use hgs_attest::host_key::evaluate;
use hgs_attest::wire::{
    AttestationProvidedContentType, AttestationRequest, ProvidedContent, SessionId,
};
use hgs_attest::{
    Attempt, Code, Credential, CredentialId, Grant, HostIdentities, HostRegistry, Refusal,
    RegisteredHost, Verdict, signer,
};
use hgs_crypto::SecretBytes;
use hgs_crypto::rsa::{PrivateKey, SignatureScheme};
use hgs_pki::health::HostId;
use hgs_pki::{Certificate, Seconds, Time};
use hgs_testkit::fixtures::{Keys, now, private_key, self_signed};

/// The key of the host that is registered.
pub(crate) fn host_key() -> Arc<PrivateKey> {
    private_key(0)
}

/// The key of a host that is not.
pub(crate) fn stranger_key() -> Arc<PrivateKey> {
    private_key(1)
}

/// The key of the attestation signer.
pub(crate) fn signer_key() -> Arc<PrivateKey> {
    private_key(2)
}

/// The keys of the service: the attestation signer's.
pub(crate) fn service_keys() -> Keys {
    let mut keys = Keys::default();
    keys.hold(&signer(), &signer_key());
    keys
}

/// Identity keys, by number.
pub(crate) fn identity_key(number: usize) -> Arc<PrivateKey> {
    private_key(3 + number)
}

pub(crate) fn signer() -> Certificate {
    self_signed(signer::template(now()), &signer_key())
}

pub(crate) fn after(seconds: Seconds) -> Time {
    now().checked_add(seconds).unwrap()
}

/// The key of the server's nonces.
pub(crate) fn nonces() -> NonceKey {
    NonceKey::new(&SecretBytes::new(vec![0x4e; 32]))
}

/// A request without a nonce, to a server that requires none.
pub(crate) fn attempt<'a>(body: &'a [u8], nonces: &'a NonceKey, when: Time) -> Attempt<'a> {
    Attempt {
        body,
        proof: None,
        nonces,
        require_nonce: false,
        now: when,
    }
}

/// Hosts by their credentials.
#[derive(Debug, Clone, Default)]
pub(crate) struct Registry(BTreeMap<CredentialId, RegisteredHost>);

pub(crate) const HOST_ID: HostId = HostId::from_bytes([0x11; 16]);

impl Registry {
    /// A registry with one host, `node-1`, whose key is [`host_key`].
    pub(crate) fn with_host() -> Self {
        let host_key = host_key().public().clone();
        let host = RegisteredHost {
            host_id: HOST_ID,
            name: "node-1".to_owned(),
            credential: Credential::HostKey(host_key.clone()),
            revoked: false,
            returns_nonces: false,
            identities: HostIdentities::default(),
        };
        Self(BTreeMap::from([(host.credential.id(), host)]))
    }

    pub(crate) fn host(&mut self) -> &mut RegisteredHost {
        let digest = *host_key().public().digest();
        self.0.get_mut(&CredentialId::HostKey(digest)).unwrap()
    }

    /// What the store does with a grant.
    pub(crate) fn record(&mut self, grant: &Grant) {
        let host = self.host();
        assert_eq!(grant.host_id(), host.host_id);
        host.identities = host.identities.after(grant.transition());
        host.returns_nonces |= grant.returned_nonce();
    }

    pub(crate) fn evaluate(&self, request: &AttestationRequest, when: Time) -> Verdict {
        evaluate(&attempt(&request.to_json(), &nonces(), when), self)
    }

    pub(crate) fn grant(&self, request: &AttestationRequest, when: Time) -> Grant {
        match self.evaluate(request, when) {
            Verdict::Healthy(grant) => grant,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn refusal(&self, request: &AttestationRequest, when: Time) -> Refusal {
        match self.evaluate(request, when) {
            Verdict::Refused(refusal) => refusal,
            other => panic!("{other:?}"),
        }
    }

    #[track_caller]
    pub(crate) fn expect_refusal(&self, request: &AttestationRequest, when: Time, code: Code) {
        assert_eq!(self.refusal(request, when).code(), code);
    }
}

impl HostRegistry for Registry {
    fn host_with(&self, credential: &CredentialId) -> Option<RegisteredHost> {
        self.0.get(credential).cloned()
    }
}

pub(crate) fn sign(key: &PrivateKey, message: &[u8]) -> Vec<u8> {
    key.sign(SignatureScheme::Pkcs1Sha256, message).unwrap()
}

/// A request by `host` for `identity`, for encryption, put together by hand.
pub(crate) fn request(host: &PrivateKey, identity: &PrivateKey) -> AttestationRequest {
    let host_key = host.public().spki_der();
    let identity_key = identity.public().spki_der();
    let signature = sign(host, &[host_key, identity_key].concat());
    AttestationRequest {
        session_id: SessionId([5; 16]),
        requested_content: vec![1.into()],
        provided_content: vec![
            content(1, identity_key),
            content(8, host_key),
            content(9, &signature),
        ],
    }
}

/// The same for signing.
pub(crate) fn request_for_signing(host: &PrivateKey, identity: &PrivateKey) -> AttestationRequest {
    AttestationRequest {
        requested_content: vec![2.into()],
        ..request(host, identity)
    }
}

pub(crate) fn content(number: u32, octets: &[u8]) -> ProvidedContent {
    ProvidedContent {
        content_type: AttestationProvidedContentType::from(number),
        octets: octets.to_vec(),
    }
}
