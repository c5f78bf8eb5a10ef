//! Sealed objects whose policy demands PCRs and a counter: a TPM unseals them while it has measured the same boot, and until
//! the counter goes on. A counter in NV memory never goes back, also when it is removed and defined again.
//!
//! ```text
//! StartingSealingSession ── started ──▶ SealingSession ── create ──▶ AwaitingSealedObject ── receive ──▶ SealedObject
//! ```
//!
//! They are opened in a [`PolicySession`]. What is sealed is encrypted on its way to the TPM and back.

use hgs_crypto::hash::{Sha256Digest, sha256_of};
use hgs_crypto::{CryptoError, Random, SecretBytes};

use super::command::{
    ALGORITHM_NULL, CREATE, Handle, NO_SESSIONS, OWNER, SESSIONS, message, public_parameters,
};
use super::host_command::{empty_password, load_object, loaded_object, nv_octets, nv_reads};
use super::key_use::{Exchange, HMAC_SESSION, KeyUseError, PolicySession, StartingPolicySession};
use super::policy::SHA256;
use super::public::{Name, StorageRootKey};
use super::response::{ResponseError, body, read_creation};
use super::wire::{Reader, StructureError, sized};

const NV_UNDEFINE_SPACE: u32 = 0x0000_0122;
const NV_DEFINE_SPACE: u32 = 0x0000_012a;
const NV_INCREMENT: u32 = 0x0000_0134;
const POLICY_NV: u32 = 0x0000_0149;

/// TPM_EO_EQ: the values are equal.
const EQUAL: u16 = 0;
/// Octets of a counter.
const COUNTER_SIZE: u16 = 8;
/// ownerwrite, authwrite, TPM_NT_COUNTER, ownerread, authread, no_da.
const COUNTER_ATTRIBUTES: u32 = 0x0206_0016;
/// The counter has been incremented; before, it has no value.
const WRITTEN: u32 = 0x2000_0000;

const KEYED_HASH: u16 = 0x0008;
/// fixedTPM, fixedParent, adminWithPolicy, noDA. Without userWithAuth, which would let an empty password unseal it.
const SEALED_ATTRIBUTES: u32 = 0x0000_0492;

/// An NV index that counts and belongs to the owner of the TPM, whose password is empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Counter(u32);

impl Counter {
    /// The counter at an index. Those of owners are 0x01800000 to 0x01bfffff (TCG Registry of Reserved TPM 2.0 Handles).
    #[must_use]
    pub const fn at(index: u32) -> Self {
        Self(index)
    }

    /// Its index.
    #[must_use]
    pub fn index(self) -> u32 {
        self.0
    }

    /// TPM2_NV_DefineSpace. The new counter has no value before it is incremented; that value is above those of all counters that
    /// this TPM ever removed.
    #[must_use]
    pub fn define(self) -> Vec<u8> {
        let owner = OWNER.to_be_bytes();
        let public = sized(&self.public(0));
        let body = [&owner[..], &empty_password(), &sized(&[]), &public].concat();
        message(SESSIONS, NV_DEFINE_SPACE, &body)
    }

    /// TPM2_NV_UndefineSpace.
    #[must_use]
    pub fn remove(self) -> Vec<u8> {
        let handles = [OWNER, self.0].map(u32::to_be_bytes).concat();
        let body = [&handles[..], &empty_password()].concat();
        message(SESSIONS, NV_UNDEFINE_SPACE, &body)
    }

    /// TPM2_NV_Increment.
    #[must_use]
    pub fn increment(self) -> Vec<u8> {
        let handles = [self.0; 2].map(u32::to_be_bytes).concat();
        let body = [&handles[..], &empty_password()].concat();
        message(SESSIONS, NV_INCREMENT, &body)
    }

    /// TPM2_NV_Read of its value.
    #[must_use]
    pub fn read(self) -> Vec<u8> {
        nv_reads(self.0, COUNTER_SIZE).flatten().collect()
    }

    /// The value that the response to [`Self::read`] holds.
    ///
    /// # Errors
    /// When the TPM refused, or the response is of another shape.
    pub fn value(response: &[u8]) -> Result<u64, ResponseError> {
        let octets = nv_octets(response)?;
        let value = octets.try_into().map_err(|_| StructureError::Size {
            field: "data",
            found: octets.len(),
        })?;
        Ok(u64::from_be_bytes(value))
    }

    /// Whether the index that TPM2_NV_ReadPublic was asked about has a value. `None` if it is not this counter.
    ///
    /// # Errors
    /// When the TPM refused, as one without the index does, or the response is of another shape.
    pub fn has_value(self, response: &[u8]) -> Result<Option<bool>, ResponseError> {
        let mut reader = Reader::new(body(response, NO_SESSIONS)?);
        let public = reader.sized("nvPublic")?;
        reader.sized("nvName")?;
        reader.end("the response")?;
        let of = |written| (public == self.public(written)).then_some(written == WRITTEN);
        Ok(of(WRITTEN).or_else(|| of(0)))
    }

    /// The digest of a policy that demands what `policy` does, and that this counter has this value.
    #[must_use]
    pub fn policy(self, policy: &Sha256Digest, value: u64) -> Sha256Digest {
        let arguments = sha256_of(&[&value.to_be_bytes(), &[0; 2], &EQUAL.to_be_bytes()]);
        let name = Name::of(&self.public(WRITTEN));
        sha256_of(&[policy, &POLICY_NV.to_be_bytes(), &arguments, name.octets()])
    }

    /// TPMS_NV_PUBLIC.
    fn public(self, written: u32) -> Vec<u8> {
        [
            &self.0.to_be_bytes()[..],
            &SHA256.to_be_bytes(),
            &(COUNTER_ATTRIBUTES | written).to_be_bytes(),
            &sized(&[]),
            &COUNTER_SIZE.to_be_bytes(),
        ]
        .concat()
    }
}

impl PolicySession {
    /// TPM2_PolicyNV: the TPM refuses it if the counter has another value.
    #[must_use]
    pub fn policy_nv(&self, counter: Counter, value: u64) -> Vec<u8> {
        let handles = [counter.0, counter.0, self.handle().value()];
        let body = [
            &handles.map(u32::to_be_bytes).concat()[..],
            &empty_password(),
            &sized(&value.to_be_bytes()),
            &[0; 2],
            &EQUAL.to_be_bytes(),
        ]
        .concat();
        message(SESSIONS, POLICY_NV, &body)
    }
}

/// A secret as its host keeps it: the TPM has encrypted it, and loads it under the storage root key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealedObject {
    private: Vec<u8>,
    public: Vec<u8>,
}

impl SealedObject {
    /// From the octets that were kept.
    ///
    /// # Errors
    /// When the public area is not that of a sealed object of this profile.
    pub fn new(private: Vec<u8>, public: Vec<u8>) -> Result<Self, StructureError> {
        let mut reader = Reader::new(&public);
        reader.expect_u16(KEYED_HASH, "type")?;
        reader.expect_u16(SHA256, "nameAlg")?;
        reader.expect_u32(SEALED_ATTRIBUTES, "objectAttributes")?;
        reader.sized_array::<32>("authPolicy")?;
        reader.expect_u16(ALGORITHM_NULL, "scheme.scheme")?;
        reader.sized_array::<32>("unique")?;
        reader.end("TPMT_PUBLIC")?;
        Ok(Self { private, public })
    }

    /// The octets of TPM2B_PRIVATE after its size.
    #[must_use]
    pub fn private(&self) -> &[u8] {
        &self.private
    }

    /// TPMT_PUBLIC.
    #[must_use]
    pub fn public(&self) -> &[u8] {
        &self.public
    }

    /// The name that a TPM gives it.
    #[must_use]
    pub fn name(&self) -> Name {
        Name::of(&self.public)
    }
}

/// The template with the digest of a policy, as TPM2_Create has it.
fn template(policy: &Sha256Digest) -> Vec<u8> {
    [
        &[KEYED_HASH, SHA256].map(u16::to_be_bytes).concat()[..],
        &SEALED_ATTRIBUTES.to_be_bytes(),
        &sized(policy),
        &ALGORITHM_NULL.to_be_bytes(),
        &sized(&[]),
    ]
    .concat()
}

/// An HMAC session for one sealed object whose TPM2_StartAuthSession has been sent.
#[derive(Debug)]
pub struct StartingSealingSession(StartingPolicySession);

impl StartingSealingSession {
    /// Starts a session whose salt only the TPM with `key` can decrypt, and which the host calls `handle`.
    ///
    /// # Errors
    /// When there is no randomness.
    pub fn start(
        key: &StorageRootKey,
        handle: Handle,
        random: &mut dyn Random,
    ) -> Result<(Self, Vec<u8>), CryptoError> {
        let (starting, command) =
            StartingPolicySession::start_as(HMAC_SESSION, key, handle, random)?;
        Ok((Self(starting), command))
    }

    /// Takes the response to TPM2_StartAuthSession.
    ///
    /// # Errors
    /// When the TPM refused, or the response is of another shape.
    pub fn started(&self, response: &[u8]) -> Result<SealingSession, KeyUseError> {
        self.0.started(response).map(SealingSession)
    }
}

/// A started session, which serves for one sealed object.
#[derive(Debug)]
pub struct SealingSession(PolicySession);

impl SealingSession {
    /// TPM2_Create under the storage root key of a sealed object that the policy with this digest opens: at most 128 octets.
    ///
    /// # Errors
    /// When there is no randomness.
    pub fn create(
        self,
        (key, parent): (&StorageRootKey, Handle),
        secret: &SecretBytes,
        policy: &Sha256Digest,
        random: &mut dyn Random,
    ) -> Result<(AwaitingSealedObject, Vec<u8>), CryptoError> {
        // Room for all of it from the start: no reallocation leaves a copy behind.
        let mut sensitive = Vec::with_capacity(4 + secret.len());
        sensitive.extend_from_slice(&[0, 0]);
        let size = u16::try_from(secret.len()).map_err(|_| CryptoError)?;
        sensitive.extend_from_slice(&size.to_be_bytes());
        sensitive.extend_from_slice(secret.expose());
        let sensitive = SecretBytes::new(sensitive);
        let template = template(policy);
        let (exchange, command) = self.0.authorize_secret(
            CREATE,
            (parent, &key.public().name()),
            &sensitive,
            &public_parameters(&template, None),
            random,
        )?;
        Ok((AwaitingSealedObject { exchange, template }, command))
    }
}

/// A session that awaits a sealed object.
#[derive(Debug)]
pub struct AwaitingSealedObject {
    exchange: Exchange,
    template: Vec<u8>,
}

impl AwaitingSealedObject {
    /// The sealed object.
    ///
    /// # Errors
    /// When the TPM refused, the response is not authentic, or the object was not made from the template.
    pub fn receive(&self, response: &[u8]) -> Result<SealedObject, KeyUseError> {
        let (parameters, _) = self.exchange.verify(response)?;
        let mut reader = Reader::new(parameters);
        let private = reader.sized("outPrivate")?.to_vec();
        let public = reader.sized("outPublic")?.to_vec();
        read_creation(&mut reader)?;
        reader.end("the parameters")?;
        // All but the empty `unique` at the end.
        if !public.starts_with(&self.template[..self.template.len() - 2]) {
            return Err(KeyUseError::NotAuthentic);
        }
        Ok(SealedObject::new(private, public)?)
    }
}

/// TPM2_Load of a sealed object under a storage root key, whose password is empty.
#[must_use]
pub fn load_sealed(parent: Handle, object: &SealedObject) -> Vec<u8> {
    load_object(parent, &object.private, &object.public)
}

/// The handle of the object that TPM2_Load loaded.
///
/// # Errors
/// When the TPM refused, or loaded another object.
pub fn sealed_loaded(response: &[u8], object: &SealedObject) -> Result<Handle, ResponseError> {
    loaded_object(response, &object.name())
}
