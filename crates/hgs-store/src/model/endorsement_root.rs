//! Who is trusted to vouch for TPMs.

use hgs_pki::endorsement::EndorsementAuthority;
use hgs_pki::{Thumbprint, Time};
use serde::{Deserialize, Serialize};

use super::text;

/// The certificate of an authority that issues EK certificates.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EndorsementRoot {
    /// The certificate, by whose thumbprint the record is named.
    #[serde(with = "authority")]
    pub certificate: EndorsementAuthority,
    /// Whether paths end at it. Otherwise it only helps to find the way to one at which they do.
    pub is_root: bool,
    /// When it was added.
    #[serde(with = "text::display")]
    pub added: Time,
}

impl EndorsementRoot {
    /// The certificate's thumbprint.
    #[must_use]
    pub fn thumbprint(&self) -> Thumbprint {
        self.certificate.thumbprint()
    }
}

/// The Base64 of its DER: parsed when it is read, and never again.
mod authority {
    use hgs_pki::endorsement::EndorsementAuthority;
    use serde::de::Error as _;
    use serde::{Deserializer, Serializer};

    use super::text::octets;

    pub(super) fn serialize<S: Serializer>(
        authority: &EndorsementAuthority,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        octets::serialize(authority.der(), serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<EndorsementAuthority, D::Error> {
        let der = octets::deserialize(deserializer)?;
        EndorsementAuthority::from_der(&der).map_err(D::Error::custom)
    }
}
