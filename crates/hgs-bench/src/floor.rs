//! The floor: the cryptographic primitives that a roll of the reference protector needs.
//!
//! Reference protector: an owner and KPS, RSA-2048 throughout.

use hgs_crypto::random::System;
use hgs_crypto::rsa::{OaepHash, SignatureScheme};
use hgs_crypto::{SecretBytes, aes, hash};
use hgs_testkit::fixtures::{Guardian, Host};

/// Which signatures are verified: all, or only those whose results can't be cached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Caches {
    /// Every signature is seen for the first time (but every key was parsed before).
    Cold,
    /// Signatures over certificates were verified before; the guardian signature is always new.
    Warm,
}

/// The primitives of one roll, ready to be run.
pub(crate) struct Floor {
    guardian: &'static Guardian,
    host: Host,
    secret: SecretBytes,
    ciphertext: Vec<u8>,
    /// As long as the `Wrappings` of the reference protector.
    signed: Vec<u8>,
    signature: Vec<u8>,
    caches: Caches,
}

impl Floor {
    pub(crate) fn new(guardian: &'static Guardian, signed: usize, caches: Caches) -> Self {
        let secret = SecretBytes::new(vec![7; 32]);
        let signed = vec![b'x'; signed];
        let key = guardian.encryption.public_key();
        Self {
            host: Host::numbered(0),
            ciphertext: key
                .encrypt_oaep(OaepHash::Sha256, &secret)
                .expect("the secret is short"),
            signature: guardian.sign(&signed),
            guardian,
            secret,
            signed,
            caches,
        }
    }

    /// One RSA decryption, one signature, three encryptions (owner, KPS, host), the verifications, MACs and seals.
    pub(crate) fn run(&self) {
        let secret = SecretBytes::new(vec![7; 32]);
        let random = &mut System::new();
        let decrypted = self
            .guardian
            .encryption_key
            .decrypt_oaep(OaepHash::Sha256, &self.ciphertext);
        assert!(decrypted.is_ok());
        let scheme = SignatureScheme::Pkcs1Sha256;
        let signature = self.guardian.signing_key.sign(scheme, &self.signed);
        assert!(signature.is_ok());

        let guardian = self.guardian.encryption.public_key();
        for key in [guardian, guardian, self.host.key.public()] {
            assert!(key.encrypt_oaep(OaepHash::Sha256, &self.secret).is_ok());
        }
        let signer = self.guardian.signing.public_key();
        for _ in 0..self.verifications() {
            assert!(signer.verify(scheme, &self.signed, &self.signature).is_ok());
        }
        for _ in 0..2 {
            let derived = hash::hkdf_sha256(&secret, b"", b"OpenHGS TransportKeySignature", 32);
            let key = derived.expect("the length is in range");
            std::hint::black_box(hash::hmac_sha256(&key, &[&self.signed]));
        }
        for plaintext in [32, 84] {
            let sealed = aes::gcm_seal(&secret, b"", &vec![1; plaintext], random);
            assert!(sealed.is_ok());
        }
    }

    /// The guardian signature; and cold: two for each wrapping and that of the health certificate.
    fn verifications(&self) -> usize {
        match self.caches {
            Caches::Warm => 1,
            Caches::Cold => 1 + 2 * 2 + 1,
        }
    }
}
