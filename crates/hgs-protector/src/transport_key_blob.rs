//! The transport key blob: what KPS releases, in the form that the host reads.

use hgs_crypto::SecretBytes;

use crate::{TransportKey, TransportKeyProblem};

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
    /// The key that decrypts the stored state of the virtual machine.
    pub ingress_key: TransportKey,
    /// The key to seal it with from now on.
    pub egress_key: TransportKey,
    /// The policy that version 2 adds to the keys.
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

/// Why octets are not a transport key blob. Its author is at fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BlobError {
    /// It ends early or has octets after its end, or its DataSize is not its size.
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
    /// One of the keys is not random.
    #[error(transparent)]
    Key(#[from] TransportKeyProblem),
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

/// The unread octets.
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
        Ok(TransportKey::from_secret(SecretBytes::from(key))?)
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

#[cfg(test)]
mod tests {
    use hgs_testkit::fixtures::key_octets;
    use proptest::prelude::*;

    use super::*;

    fn key(octet: u8) -> TransportKey {
        TransportKey::from_secret(SecretBytes::from(&key_octets(octet)[..])).unwrap()
    }

    fn blob(version: BlobVersion) -> TransportKeyBlob {
        TransportKeyBlob {
            ingress_key: key(0xaa),
            egress_key: key(0xbb),
            version,
        }
    }

    fn read(octets: &[u8]) -> Result<TransportKeyBlob, BlobError> {
        TransportKeyBlob::from_secret(&SecretBytes::from(octets))
    }

    /// As the table of the protocol profile has them, octet by octet.
    #[test]
    fn the_three_forms() {
        let keys = [key_octets(0xaa), key_octets(0xbb)].concat();
        let v1 = [
            &[80, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 32, 0, 0, 0],
            &keys[..],
        ];
        let written = blob(BlobVersion::V1).to_secret();
        assert_eq!(written.expose(), v1.concat());

        let v2 = [
            &[84, 0, 0, 0, 2, 0, 0, 0, 2, 0, 0, 0, 32, 0, 0, 0],
            &keys[..],
            &[0, 0, 0, 0],
        ];
        let written = blob(BlobVersion::V2 { caching: None }).to_secret();
        assert_eq!(written.expose(), v2.concat());

        let with_policy = [
            &[108, 0, 0, 0, 2, 0, 0, 0, 2, 0, 0, 0, 32, 0, 0, 0],
            &keys[..],
            &[1, 0, 0, 0],
            &[1, 0, 0, 0, 6, 0, 0, 0, 12, 0, 0, 0],
            &[5, 0, 0, 0, 8, 7, 6, 5, 4, 3, 2, 1],
        ];
        let caching = Some(CachingPolicy {
            max_offline_unwraps: 5,
            expiry: 0x0102_0304_0506_0708,
        });
        let written = blob(BlobVersion::V2 { caching }).to_secret();
        assert_eq!(written.expose(), with_policy.concat());
    }

    #[test]
    fn sizes_that_do_not_fit() {
        let caching = Some(CachingPolicy {
            max_offline_unwraps: 5,
            expiry: 1,
        });
        for version in [
            BlobVersion::V1,
            BlobVersion::V2 { caching: None },
            BlobVersion::V2 { caching },
        ] {
            let octets = blob(version).to_secret().expose().to_vec();
            for length in 0..octets.len() {
                assert!(read(&octets[..length]).is_err(), "{length}");
                // With a DataSize that says so.
                let mut short = octets[..length].to_vec();
                let size = u32::try_from(length).unwrap().to_le_bytes();
                short.iter_mut().zip(size).for_each(|(to, from)| *to = from);
                assert!(read(&short).is_err(), "{length}");
            }
            let mut longer = octets.clone();
            longer.push(0);
            assert_eq!(read(&longer), Err(BlobError::Size(octets.len() + 1)));
            longer[0] += 1;
            assert_eq!(read(&longer), Err(BlobError::Size(octets.len() + 1)));
        }
    }

    #[test]
    fn fields_with_other_values() {
        let caching = Some(CachingPolicy {
            max_offline_unwraps: 5,
            expiry: 1,
        });
        let octets = blob(BlobVersion::V2 { caching }).to_secret();
        for (place, value, expected) in [
            (0, 107, BlobError::Size(108)),
            (4, 0, BlobError::Version(0)),
            (4, 3, BlobError::Version(3)),
            (4, 1, BlobError::Size(108)),
            (
                8,
                1,
                BlobError::Keys {
                    number: 1,
                    length: 32,
                },
            ),
            (
                8,
                3,
                BlobError::Keys {
                    number: 3,
                    length: 32,
                },
            ),
            (
                12,
                16,
                BlobError::Keys {
                    number: 2,
                    length: 16,
                },
            ),
            (80, 0, BlobError::Size(108)),
            (80, 2, BlobError::Policy),
            (84, 2, BlobError::Policy),
            (88, 5, BlobError::Policy),
            (92, 8, BlobError::Policy),
        ] {
            let mut changed = octets.expose().to_vec();
            changed[place] = value;
            assert_eq!(read(&changed), Err(expected), "{place}");
        }
    }

    #[test]
    fn keys_that_are_not_random() {
        let octets = blob(BlobVersion::V1).to_secret();
        for place in [16, 48] {
            let mut changed = octets.expose().to_vec();
            changed[place..place + 32].fill(0x5a);
            assert_eq!(
                read(&changed),
                Err(BlobError::Key(TransportKeyProblem::NotRandom))
            );
        }
    }

    fn any_version() -> impl Strategy<Value = BlobVersion> {
        let caching = proptest::option::of((any::<u32>(), any::<u64>()).prop_map(
            |(max_offline_unwraps, expiry)| CachingPolicy {
                max_offline_unwraps,
                expiry,
            },
        ));
        prop_oneof![
            Just(BlobVersion::V1),
            caching.prop_map(|caching| BlobVersion::V2 { caching })
        ]
    }

    proptest! {
        #[test]
        fn what_was_written_is_read(version in any_version(), ingress: [u8; 32], egress: [u8; 32]) {
            let of = |octets: [u8; 32]| TransportKey::from_secret(SecretBytes::from(&octets[..]));
            prop_assume!(of(ingress).is_ok() && of(egress).is_ok());
            let blob = TransportKeyBlob {
                ingress_key: of(ingress).unwrap(),
                egress_key: of(egress).unwrap(),
                version,
            };
            prop_assert_eq!(TransportKeyBlob::from_secret(&blob.to_secret()), Ok(blob));
        }

        /// A blob that can be read has one form only.
        #[test]
        fn what_is_read_is_written_the_same(
            version in any_version(),
            changes in proptest::collection::vec((0_usize..108, any::<u8>()), 0..3),
        ) {
            let mut octets = blob(version).to_secret().expose().to_vec();
            for (place, value) in changes {
                if let Some(octet) = octets.get_mut(place) {
                    *octet = value;
                }
            }
            if let Ok(blob) = read(&octets) {
                let again = blob.to_secret();
                prop_assert_eq!(again.expose(), &octets);
            }
        }
    }
}
