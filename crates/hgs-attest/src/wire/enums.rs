//! The enumerations of [MS-HGSA] 2.2.1. On the wire they are numbers; a number that the specification does not name is
//! kept, so that an error can name it.

use std::fmt;

use serde::{Serialize, Serializer};

macro_rules! wire_enum {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $number:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name {
            $($(#[$variant_doc])* $variant,)+
            /// A number without a name.
            Unnamed(u32),
        }

        impl $name {
            /// The number on the wire.
            #[must_use]
            pub fn number(self) -> u32 {
                match self {
                    $(Self::$variant => $number,)+
                    Self::Unnamed(number) => number,
                }
            }
        }

        impl From<u32> for $name {
            fn from(number: u32) -> Self {
                match number {
                    $($number => Self::$variant,)+
                    number => Self::Unnamed(number),
                }
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_u32(self.number())
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self {
                    $(Self::$variant => formatter.write_str(stringify!($variant)),)+
                    Self::Unnamed(number) => write!(formatter, "{number}"),
                }
            }
        }
    };
}

wire_enum! {
    /// How a server attests ([MS-HGSA] 2.2.1.1).
    AttestationOperationMode {
        /// 0: unknown.
        Unknown = 0,
        /// 1: by the platform's TPM.
        Tpm = 1,
        /// 2: by membership in a group of Active Directory.
        ActiveDirectory = 2,
        /// 3: by a registered host key.
        HostKey = 3,
    }
}

wire_enum! {
    /// What a request provides ([MS-HGSA] 2.2.1.2).
    AttestationProvidedContentType {
        /// 1: the public key that a health certificate is asked for.
        VirtualSecureModeIdentityKey = 1,
        /// 2: a context of the remote TPM protocol ([MS-HGSA] 2.2.2.25).
        RtpmContext = 2,
        /// 3: a health certificate that was issued before.
        HealthCertificate = 3,
        /// 4: the endorsement key certificate of a TPM.
        EndorsementKeyCertificate = 4,
        /// 5: the hash of the key that signed CaTrustletVsmReport.
        CaTrustletUserData = 5,
        /// 6: the report of the CA trustlet.
        CaTrustletVsmReport = 6,
        /// 7: the signature over CaTrustletVsmReport.
        CaTrustletReportSignature = 7,
        /// 8: the public half of the host key.
        HostKeyPublicKey = 8,
        /// 9: the host key's signature over HostKeyPublicKey and VirtualSecureModeIdentityKey.
        HostKeySignature = 9,
    }
}

wire_enum! {
    /// What a request asks for ([MS-HGSA] 2.2.1.3).
    AttestationResultType {
        /// 1: a health certificate for encryption.
        VsmIdentityEncryptionKeyCertificate = 1,
        /// 2: a health certificate for signing.
        VsmIdentitySigningKeyCertificate = 2,
        /// 3: the certificate of an intermediate authority. OpenHGS issues none.
        VsmCaIntermediateCertificate = 3,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_goes_there_and_back() {
        for number in (0..12).chain([u32::MAX]) {
            assert_eq!(AttestationOperationMode::from(number).number(), number);
            assert_eq!(
                AttestationProvidedContentType::from(number).number(),
                number
            );
            assert_eq!(AttestationResultType::from(number).number(), number);
        }
        assert_eq!(AttestationOperationMode::from(4).to_string(), "4");
        assert_eq!(AttestationOperationMode::from(3).to_string(), "HostKey");
    }
}
