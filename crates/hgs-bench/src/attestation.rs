//! An attestation in host-key mode: from the request's octets to the reply's.

use hgs_attest::freshness::NonceKey;
use hgs_attest::host_key::evaluate;
use hgs_attest::issue::{self, DrawnSerialNumber};
use hgs_attest::wire::SessionId;
use hgs_attest::{
    Attempt, Credential, CredentialId, HostIdentities, HostRegistry, RegisteredHost, Verdict,
    client,
};
use hgs_crypto::SecretBytes;
use hgs_crypto::random::System;
use hgs_crypto::rsa::{PublicKey, SignatureScheme};
use hgs_pki::health::{HealthKind, HealthValidity};
use hgs_testkit::fixtures::{AttestationSigner, Host, Keys, now, private_key};

use crate::measure::{Effort, Table, compare};

/// The floor: the host key's signature is verified, the identity key is parsed and checked (it is a stranger's), and
/// the certificate is signed.
pub(crate) fn in_process(effort: Effort, table: &mut Table) {
    let host_key = private_key(0);
    let identity_key = private_key(1);
    let signer = AttestationSigner::ours();
    let scheme = SignatureScheme::Pkcs1Sha256;

    let prepared = client::prepare(
        SessionId([1; 16]),
        HealthKind::Encryption,
        host_key.public(),
        identity_key.public(),
    );
    let message = prepared.to_be_signed().to_vec();
    let signature = host_key
        .sign(scheme, &message)
        .expect("a software key signs");
    let request = prepared
        .assemble(signature.clone())
        .expect("it is the host key's")
        .body()
        .to_vec();
    let registry = OneHost(host_key.public().clone());
    let attempt = Attempt {
        body: &request,
        proof: None,
        nonces: &NonceKey::new(&SecretBytes::new((0..32).collect())),
        require_nonce: false,
        now: now(),
    };

    let mut keys = Keys::default();
    keys.hold(&signer.certificate, &signer.key);
    let floor = || {
        assert!(
            host_key
                .public()
                .verify(scheme, &message, &signature)
                .is_ok()
        );
        assert!(PublicKey::from_spki_der(identity_key.public().spki_der()).is_ok());
        assert!(signer.key.sign(scheme, &message).is_ok());
    };
    let attest = || {
        let Verdict::Healthy(grant) = evaluate(&attempt, &registry) else {
            panic!("the host is registered");
        };
        let serial =
            DrawnSerialNumber::draw(&mut System::new()).expect("the system has randomness");
        let validity = HealthValidity::default();
        let (grant, keys) = (grant.recorded(), &mut &keys);
        let issued = issue::issue(grant, &signer.certificate, validity, serial, keys)
            .expect("the signer's key signs");
        std::hint::black_box(issued.reply().to_json());
    };
    table.add(
        "attestation in process, host-key mode",
        compare(effort, floor, attest),
    );
}

/// A registry with one host in it.
struct OneHost(PublicKey);

impl HostRegistry for OneHost {
    fn host_with(&self, credential: &CredentialId) -> Option<RegisteredHost> {
        (*credential == CredentialId::HostKey(*self.0.digest())).then(|| RegisteredHost {
            host_id: Host::numbered(0).id,
            name: "bench".to_owned(),
            credential: Credential::HostKey(self.0.clone()),
            revoked: false,
            returns_nonces: false,
            identities: HostIdentities::default(),
        })
    }
}
