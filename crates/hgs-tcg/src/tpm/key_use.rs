//! Work with a key that a TPM has created for its host: in a policy session that is salted to the storage root key, so that
//! nobody between processor and TPM reads what is decrypted or chooses it (part 1, 19 and 21).
//!
//! ```text
//! StartingPolicySession ── started ──▶ PolicySession ── policy_pcr, then decrypt ──────────▶ AwaitingPlaintext ── receive
//!                                                    ├─ policy_pcr, policy_nv, then unseal ▶ AwaitingPlaintext ── receive
//!                                                    └─ policy_pcr, then sign ─────────────▶ AwaitingSignature ── receive
//! ```
//!
//! The public area of the storage root key is one that the host has kept since its enrolment: one that is read now could be
//! that of a device in between. A session serves for one use and ends with it.

use hgs_crypto::hash::{Sha256Digest, hmac_sha256, kdfa_sha256, sha256_of, verify_hmac_sha256};
use hgs_crypto::rsa::OaepHash;
use hgs_crypto::{CryptoError, Random, SecretBytes, aes, random};

use super::command::{
    ALGORITHM_NULL, Handle, NO_SESSIONS, NULL, SESSIONS, START_AUTH_SESSION, message, sized_32,
    sized_area,
};
use super::policy::{POLICY_PCR, PcrSelection, SHA256};
use super::public::{AES, CFB, Name, RSASSA, StorageRootKey};
use super::response::{ResponseError, body};
use super::response_code::ResponseCode;
use super::session::{OAEP_LABEL, SESSION_KEY_LABEL};
use super::wire::{Reader, StructureError, sized};

const RSA_DECRYPT: u32 = 0x0000_0159;
const SIGN: u32 = 0x0000_015d;
const UNSEAL: u32 = 0x0000_015e;
pub(super) const HMAC_SESSION: u8 = 0;
const POLICY_SESSION: u8 = 1;
/// The label of KDFa for the key of parameter encryption (part 1, 21.3).
const ENCRYPTION_LABEL: &str = "CFB";
/// The structure tag of the ticket that says that the TPM has hashed; here a null ticket.
const HASH_CHECK: u16 = 0x8024;

/// The response's first parameter is encrypted, and the session ends.
const ENCRYPT_AND_END: u8 = 0x40;
/// The session ends.
const END: u8 = 0;
/// The command's first parameter is encrypted, and the session ends.
const DECRYPT_AND_END: u8 = 0x20;

/// Why a TPM did not do the work, or why what it answered is not used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyUseError {
    /// The PCRs have other values than when the key was made.
    #[error("the PCRs are not those that the key was made for: the host has booted something else")]
    PcrsChanged,
    /// The ciphertext was not made for this key.
    #[error("the ciphertext was not made for this key")]
    Ciphertext,
    /// The HMAC does not fit, or the result was not encrypted.
    #[error(
        "the response of the TPM is not authentic: something between processor and TPM altered it"
    )]
    NotAuthentic,
    /// The TPM refused, or the octets are no response.
    #[error(transparent)]
    Response(#[from] ResponseError),
    /// A primitive of ours failed.
    #[error(transparent)]
    Crypto(#[from] CryptoError),
}

impl From<StructureError> for KeyUseError {
    fn from(error: StructureError) -> Self {
        Self::Response(error.into())
    }
}

/// A policy session whose TPM2_StartAuthSession has been sent.
#[derive(Debug)]
pub struct StartingPolicySession {
    salt: SecretBytes,
    nonce_caller: [u8; 32],
}

impl StartingPolicySession {
    /// Starts a session whose salt only the TPM with `key` can decrypt, and which the host calls `handle`.
    ///
    /// # Errors
    /// When there is no randomness.
    pub fn start(
        key: &StorageRootKey,
        handle: Handle,
        random: &mut dyn Random,
    ) -> Result<(Self, Vec<u8>), CryptoError> {
        Self::start_as(POLICY_SESSION, key, handle, random)
    }

    /// The same with the type of the session.
    pub(super) fn start_as(
        kind: u8,
        key: &StorageRootKey,
        handle: Handle,
        random: &mut dyn Random,
    ) -> Result<(Self, Vec<u8>), CryptoError> {
        let salt = SecretBytes::random(32, random)?;
        let nonce_caller = random::array(random)?;
        let key = key.public().rsa_key().map_err(|_| CryptoError)?;
        let encrypted = key.encrypt_oaep_with_label(OaepHash::Sha256, OAEP_LABEL, &salt)?;
        let symmetric = [AES, 128, CFB].map(u16::to_be_bytes).concat();
        let body = [
            &handle.value().to_be_bytes()[..],
            &NULL.to_be_bytes(),
            &sized(&nonce_caller),
            &sized(&encrypted),
            &[kind],
            &symmetric,
            &SHA256.to_be_bytes(),
        ]
        .concat();
        let command = message(NO_SESSIONS, START_AUTH_SESSION, &body);
        Ok((Self { salt, nonce_caller }, command))
    }

    /// Takes the response to TPM2_StartAuthSession.
    ///
    /// # Errors
    /// When the TPM refused, or the response is of another shape.
    pub fn started(&self, response: &[u8]) -> Result<PolicySession, KeyUseError> {
        let mut reader = Reader::new(body(response, NO_SESSIONS)?);
        let handle = Handle::new(reader.u32("sessionHandle")?);
        let nonce_tpm: [u8; 32] = reader.sized_array("nonceTPM")?;
        reader.end("the response")?;
        let nonces: [&[u8]; 2] = [&nonce_tpm, &self.nonce_caller];
        let key = kdfa_sha256(&self.salt, SESSION_KEY_LABEL, nonces, 32)?;
        Ok(PolicySession {
            key,
            handle,
            nonce_tpm,
        })
    }
}

/// A started policy session.
#[derive(Debug)]
pub struct PolicySession {
    key: SecretBytes,
    handle: Handle,
    nonce_tpm: [u8; 32],
}

impl PolicySession {
    /// By which the TPM knows the session.
    #[must_use]
    pub fn handle(&self) -> Handle {
        self.handle
    }

    /// TPM2_PolicyPCR with the values that the PCRs have now. Its response is read by [`done`](super::done); altered on the
    /// way, it makes the use of the key fail.
    #[must_use]
    pub fn policy_pcr(&self, pcrs: PcrSelection) -> Vec<u8> {
        let session = self.handle.value().to_be_bytes();
        // An empty digest: the TPM compares with nothing, and takes the values into the policy.
        let body = [&session[..], &sized(&[]), &pcrs.octets()].concat();
        message(NO_SESSIONS, POLICY_PCR, &body)
    }

    /// TPM2_RSA_Decrypt with the scheme of the key, RSA-OAEP with SHA-256 and an empty label.
    ///
    /// # Errors
    /// When there is no randomness.
    pub fn decrypt(
        self,
        key: Handle,
        name: &Name,
        ciphertext: &[u8],
        random: &mut dyn Random,
    ) -> Result<(AwaitingPlaintext, Vec<u8>), CryptoError> {
        let parameters = [
            &sized(ciphertext)[..],
            &ALGORITHM_NULL.to_be_bytes(),
            &sized(&[]),
        ];
        let parameters = parameters.concat();
        let (exchange, command) =
            self.authorize(RSA_DECRYPT, key, name, &parameters, ENCRYPT_AND_END, random)?;
        Ok((AwaitingPlaintext(exchange), command))
    }

    /// TPM2_Unseal of a loaded object.
    ///
    /// # Errors
    /// When there is no randomness.
    pub fn unseal(
        self,
        object: Handle,
        name: &Name,
        random: &mut dyn Random,
    ) -> Result<(AwaitingPlaintext, Vec<u8>), CryptoError> {
        let (exchange, command) =
            self.authorize(UNSEAL, object, name, &[], ENCRYPT_AND_END, random)?;
        Ok((AwaitingPlaintext(exchange), command))
    }

    /// TPM2_Sign of a digest with the scheme of the key, RSASSA-PKCS1-v1_5 with SHA-256.
    ///
    /// # Errors
    /// When there is no randomness.
    pub fn sign(
        self,
        key: Handle,
        name: &Name,
        digest: &Sha256Digest,
        random: &mut dyn Random,
    ) -> Result<(AwaitingSignature, Vec<u8>), CryptoError> {
        let null_ticket = [
            &HASH_CHECK.to_be_bytes()[..],
            &NULL.to_be_bytes(),
            &sized(&[]),
        ];
        let parameters = [
            &sized(digest)[..],
            &ALGORITHM_NULL.to_be_bytes(),
            &null_ticket.concat(),
        ]
        .concat();
        let (exchange, command) = self.authorize(SIGN, key, name, &parameters, END, random)?;
        Ok((AwaitingSignature(exchange), command))
    }

    fn authorize(
        self,
        code: u32,
        key: Handle,
        name: &Name,
        parameters: &[u8],
        attributes: u8,
        random: &mut dyn Random,
    ) -> Result<(Exchange, Vec<u8>), CryptoError> {
        let nonce_caller: [u8; 32] = random::array(random)?;
        Ok(self.authorize_with(nonce_caller, code, (key, name), parameters, attributes))
    }

    /// A command whose first parameter is `secret` with its size in front, which only the TPM reads, and `rest`.
    pub(super) fn authorize_secret(
        self,
        code: u32,
        (key, name): (Handle, &Name),
        secret: &SecretBytes,
        rest: &[u8],
        random: &mut dyn Random,
    ) -> Result<(Exchange, Vec<u8>), CryptoError> {
        let nonce_caller: [u8; 32] = random::array(random)?;
        // Part 1, 21.3: of a command, the caller's nonce is the newer one.
        let nonces: [&[u8]; 2] = [&nonce_caller, &self.nonce_tpm];
        let derived = kdfa_sha256(&self.key, ENCRYPTION_LABEL, nonces, 32)?;
        let (cipher_key, iv) = derived.expose().split_at(16);
        let iv = iv.try_into().map_err(|_| CryptoError)?;
        let encrypted = aes::cfb128_encrypt(&SecretBytes::from(cipher_key), iv, secret)?;
        let parameters = [&sized(&encrypted), rest].concat();
        let attributes = DECRYPT_AND_END;
        Ok(self.authorize_with(nonce_caller, code, (key, name), &parameters, attributes))
    }

    fn authorize_with(
        self,
        nonce_caller: [u8; 32],
        code: u32,
        (key, name): (Handle, &Name),
        parameters: &[u8],
        attributes: u8,
    ) -> (Exchange, Vec<u8>) {
        let digest = sha256_of(&[&code.to_be_bytes(), name.octets(), parameters]);
        let signed: [&[u8]; 4] = [&digest, &nonce_caller, &self.nonce_tpm, &[attributes]];
        let authorization = [
            &self.handle.value().to_be_bytes()[..],
            &sized(&nonce_caller),
            &[attributes],
            &sized(&hmac_sha256(&self.key, &signed)),
        ]
        .concat();
        let body = [
            &key.value().to_be_bytes()[..],
            &sized_area(&authorization),
            parameters,
        ]
        .concat();
        let exchange = Exchange {
            session: self,
            code,
            attributes,
            nonce_caller,
        };
        (exchange, message(SESSIONS, code, &body))
    }
}

/// A session for fuzz targets: no TPM has it.
pub(super) fn known_session() -> PolicySession {
    PolicySession {
        key: SecretBytes::new((1..33).collect()),
        handle: Handle::new(0x0300_0000),
        nonce_tpm: [3; 32],
    }
}

/// A session and the use of a key that it has authorised.
#[derive(Debug)]
pub(super) struct Exchange {
    session: PolicySession,
    code: u32,
    attributes: u8,
    nonce_caller: [u8; 32],
}

impl Exchange {
    /// The parameters of an authentic response, and the nonce that came with it.
    pub(super) fn verify<'r>(
        &self,
        response: &'r [u8],
    ) -> Result<(&'r [u8], [u8; 32]), KeyUseError> {
        let body = body(response, SESSIONS).map_err(|error| match error {
            ResponseError::Refused(code) => refused(code),
            ResponseError::WithoutSession => KeyUseError::NotAuthentic,
            error => error.into(),
        })?;
        let mut reader = Reader::new(body);
        let parameters = sized_32(&mut reader, "parameterSize")?;
        let nonce_tpm: [u8; 32] = reader.sized_array("nonceTPM")?;
        let attributes = reader.u8("sessionAttributes")?;
        let hmac: [u8; 32] = reader.sized_array("hmac")?;
        reader.end("the response's only session")?;
        let digest = sha256_of(&[&[0; 4], &self.code.to_be_bytes(), parameters]);
        let signed = [&digest[..], &nonce_tpm, &self.nonce_caller, &[attributes]].concat();
        verify_hmac_sha256(&self.session.key, &signed, &hmac)
            .map_err(|_| KeyUseError::NotAuthentic)?;
        match attributes == self.attributes {
            true => Ok((parameters, nonce_tpm)),
            false => Err(KeyUseError::NotAuthentic),
        }
    }
}

fn refused(code: ResponseCode) -> KeyUseError {
    match code.value() {
        // TPM_RC_POLICY_FAIL of the session, TPM_RC_PCR_CHANGED
        0x99d | 0x128 => KeyUseError::PcrsChanged,
        // TPM_RC_VALUE and TPM_RC_SIZE of the first parameter, the ciphertext; some TPMs leave the number away.
        0x1c4 | 0x1d5 | 0x084 | 0x095 => KeyUseError::Ciphertext,
        _ => ResponseError::Refused(code).into(),
    }
}

/// A session that awaits a plaintext.
#[derive(Debug)]
pub struct AwaitingPlaintext(Exchange);

impl AwaitingPlaintext {
    /// The plaintext, which came encrypted under a key of the session.
    ///
    /// # Errors
    /// When the TPM refused, or the response is not authentic.
    pub fn receive(&self, response: &[u8]) -> Result<SecretBytes, KeyUseError> {
        let (parameters, nonce_tpm) = self.0.verify(response)?;
        let mut reader = Reader::new(parameters);
        let encrypted = reader.sized("message")?;
        reader.end("the parameters")?;
        // Part 1, 21.3: the key is that of the session, as the key that is used has no password.
        let nonces: [&[u8]; 2] = [&nonce_tpm, &self.0.nonce_caller];
        let derived = kdfa_sha256(&self.0.session.key, ENCRYPTION_LABEL, nonces, 32)?;
        let (key, iv) = derived.expose().split_at(16);
        let iv = iv.try_into().map_err(|_| CryptoError)?;
        Ok(aes::cfb128_decrypt(&SecretBytes::from(key), iv, encrypted)?)
    }
}

/// A session that awaits a signature.
#[derive(Debug)]
pub struct AwaitingSignature(Exchange);

impl AwaitingSignature {
    /// The signature.
    ///
    /// # Errors
    /// When the TPM refused, or the response is not authentic.
    pub fn receive(&self, response: &[u8]) -> Result<Vec<u8>, KeyUseError> {
        let (parameters, _) = self.0.verify(response)?;
        let mut reader = Reader::new(parameters);
        reader.expect_u16(RSASSA, "signature.sigAlg")?;
        reader.expect_u16(SHA256, "signature.hash")?;
        let signature = reader.sized("signature.sig")?.to_vec();
        reader.end("the parameters")?;
        Ok(signature)
    }
}
