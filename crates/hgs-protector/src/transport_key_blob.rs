//! The transport key blob: what KPS releases, in the form that the host reads.

use hgs_crypto::SecretBytes;

use crate::TransportKey;

/// The transport keys that a roll releases, and what the host may do with them ([MS-KPS] 2.2.3.10).
///
/// All integers are little-endian. With `K` = 32 octets of a key:
///
/// | octets | V1, 80 octets | V2, 84 or 108 octets |
/// |---|---|---|
/// | 0-3 | DataSize, of the whole blob | the same |
/// | 4-7 | Version 1 | Version 2 |
/// | 8-11 | NumberOfKeys 2 | the same |
/// | 12-15 | KeyLength 32, once | the same |
/// | 16-47, 48-79 | ingress key, egress key | the same |
/// | 80-83 | | NumberOfPolicies 0 or 1 |
/// | 84-107 | | PolicyId 1, PolicyType 6, PolicyDataSize 12, [`CachingPolicy`] |
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TransportKeyBlob {
    /// The key that opens what the virtual machine was stored with.
    pub ingress_key: TransportKey,
    /// The key to seal it with from now on.
    pub egress_key: TransportKey,
    /// What version 2 says beyond the keys.
    pub version: BlobVersion,
}

/// The version of a transport key blob, with what it has room for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BlobVersion {
    /// `Payload_V1` ([MS-KPS] 2.2.3.10.1).
    V1,
    /// `Payload_V2` ([MS-KPS] 2.2.3.10.2).
    V2 {
        /// Whether, and how long, the host may keep the keys; never without it.
        caching: Option<CachingPolicy>,
    },
}

/// The policy data of PolicyId 1 and PolicyType 6: u32 MaxOfflineUnwraps, u64 Unix seconds of the expiry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CachingPolicy {
    /// How often the host may use the keys without asking again.
    pub max_offline_unwraps: u32,
    /// The last second at which it may, in seconds since 1970-01-01T00:00:00Z.
    pub expiry: u64,
}

/// Why octets are not a transport key blob. The fault is with whoever made it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BlobError {
    /// It ends early, goes on, or its DataSize is not its size.
    #[error("transport key blob has {0} octets, which do not fit its fields")]
    Size(usize),
    /// Neither version 1 nor version 2.
    #[error("transport key blob has version {0}; 1 and 2 are known")]
    Version(u32),
    /// Not two keys of 32 octets.
    #[error("transport key blob has {number} keys of {length} octets instead of 2 of 32")]
    Keys {
        /// NumberOfKeys.
        number: u32,
        /// KeyLength.
        length: u32,
    },
    /// More than one policy, or one of a kind that is not defined.
    #[error("transport key blob has an unknown policy")]
    Policy,
}

const POLICY_ID: u32 = 1;
const POLICY_TYPE: u32 = 6;
const POLICY_DATA_SIZE: u32 = 12;

impl TransportKeyBlob {
    /// Writes the blob.
    #[must_use]
    pub fn to_secret(&self) -> SecretBytes {
        let (version, policies) = match self.version {
            BlobVersion::V1 => (1, None),
            BlobVersion::V2 { caching } => (2, Some(caching)),
        };
        let size: u32 = match policies {
            None => 80,
            Some(None) => 84,
            Some(Some(_)) => 108,
        };
        // Room for all of it from the start: no reallocation leaves a copy of the keys behind.
        let mut blob = Vec::with_capacity(size as usize);
        let key_length = TransportKey::LENGTH as u32;
        for field in [size, version, 2, key_length] {
            blob.extend_from_slice(&field.to_le_bytes());
        }
        blob.extend_from_slice(self.ingress_key.secret().expose());
        blob.extend_from_slice(self.egress_key.secret().expose());
        if let Some(caching) = policies {
            blob.extend_from_slice(&u32::from(caching.is_some()).to_le_bytes());
        }
        if let Some(Some(policy)) = policies {
            for field in [
                POLICY_ID,
                POLICY_TYPE,
                POLICY_DATA_SIZE,
                policy.max_offline_unwraps,
            ] {
                blob.extend_from_slice(&field.to_le_bytes());
            }
            blob.extend_from_slice(&policy.expiry.to_le_bytes());
        }
        SecretBytes::new(blob)
    }

    /// Reads a blob of exactly its size.
    ///
    /// # Errors
    /// See [`BlobError`].
    pub fn from_secret(blob: &SecretBytes) -> Result<Self, BlobError> {
        let mut fields = Fields {
            rest: blob.expose(),
            size: blob.len(),
        };
        if usize::try_from(fields.u32()?) != Ok(blob.len()) {
            return Err(BlobError::Size(blob.len()));
        }
        let version = fields.u32()?;
        if !matches!(version, 1 | 2) {
            return Err(BlobError::Version(version));
        }
        match (fields.u32()?, fields.u32()?) {
            (2, 32) => {}
            (number, length) => return Err(BlobError::Keys { number, length }),
        }
        let ingress_key = fields.key()?;
        let egress_key = fields.key()?;
        let version = match version {
            1 => BlobVersion::V1,
            _ => BlobVersion::V2 {
                caching: fields.policies()?,
            },
        };
        match fields.rest {
            [] => Ok(Self {
                ingress_key,
                egress_key,
                version,
            }),
            _ => Err(BlobError::Size(blob.len())),
        }
    }
}

/// What is left to read.
struct Fields<'a> {
    rest: &'a [u8],
    size: usize,
}

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], BlobError> {
        let (field, rest) = self
            .rest
            .split_first_chunk()
            .ok_or(BlobError::Size(self.size))?;
        self.rest = rest;
        Ok(*field)
    }

    fn u32(&mut self) -> Result<u32, BlobError> {
        self.take().map(u32::from_le_bytes)
    }

    fn key(&mut self) -> Result<TransportKey, BlobError> {
        let (key, rest) = self
            .rest
            .split_at_checked(TransportKey::LENGTH)
            .ok_or(BlobError::Size(self.size))?;
        self.rest = rest;
        TransportKey::from_secret(SecretBytes::from(key)).ok_or(BlobError::Size(self.size))
    }

    fn policies(&mut self) -> Result<Option<CachingPolicy>, BlobError> {
        match self.u32()? {
            0 => Ok(None),
            1 => self.policy().map(Some),
            _ => Err(BlobError::Policy),
        }
    }

    fn policy(&mut self) -> Result<CachingPolicy, BlobError> {
        let kind = (self.u32()?, self.u32()?, self.u32()?);
        if kind != (POLICY_ID, POLICY_TYPE, POLICY_DATA_SIZE) {
            return Err(BlobError::Policy);
        }
        Ok(CachingPolicy {
            max_offline_unwraps: self.u32()?,
            expiry: self.take().map(u64::from_le_bytes)?,
        })
    }
}
