//! Signatures of ECDSA [FIPS 186-5] with the curve P-256 and SHA-256, as JSON Web Signatures have them (ES256). Only the
//! public half is here: nothing of ours signs so.
//!
//! [FIPS 186-5]: https://csrc.nist.gov/pubs/fips/186-5/final

use std::fmt;

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, ParsedPublicKey};

use crate::{CryptoError, hex};

/// Octets of a coordinate.
pub const COORDINATE_LENGTH: usize = 32;

/// What an encoding of both coordinates begins with (SEC 1, section 2.3.3).
const UNCOMPRESSED: u8 = 4;

/// A point of the curve that was checked to be one.
#[derive(Clone)]
pub struct PublicKey {
    point: Vec<u8>,
    parsed: ParsedPublicKey,
}

impl PublicKey {
    /// The key with these coordinates, big-endian and in their full length.
    ///
    /// # Errors
    /// When there is no such point on the curve.
    pub fn from_coordinates(
        x: &[u8; COORDINATE_LENGTH],
        y: &[u8; COORDINATE_LENGTH],
    ) -> Result<Self, CryptoError> {
        let point = [&[UNCOMPRESSED], &x[..], y].concat();
        let parsed = ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, &point);
        Ok(Self {
            parsed: parsed.map_err(|_| CryptoError)?,
            point,
        })
    }

    /// Checks the signature of `message`: both numbers one after the other, in 64 octets.
    ///
    /// # Errors
    /// When it is not by this key.
    pub fn verify(&self, message: &[u8], signature: &[u8]) -> Result<(), CryptoError> {
        self.parsed
            .verify_sig(message, signature)
            .map_err(|_| CryptoError)
    }
}

impl PartialEq for PublicKey {
    fn eq(&self, other: &Self) -> bool {
        self.point == other.point
    }
}

impl Eq for PublicKey {}

impl fmt::Debug for PublicKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "PublicKey(P-256, {})", hex::encode(&self.point))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base64;

    fn coordinate(text: &str) -> [u8; COORDINATE_LENGTH] {
        base64::decode_url(text).unwrap().try_into().unwrap()
    }

    /// RFC 7515 appendix A.3.
    #[test]
    fn the_example_of_rfc_7515() {
        let x = coordinate("f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU");
        let y = coordinate("x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0");
        let key = PublicKey::from_coordinates(&x, &y).unwrap();
        let message = b"eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFt\
                        cGxlLmNvbS9pc19yb290Ijp0cnVlfQ";
        let signature = "DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q";
        let signature = base64::decode_url(signature).unwrap();
        assert_eq!(key.verify(message, &signature), Ok(()));
        assert!(key.verify(&message[1..], &signature).is_err());
        assert!(key.verify(message, &signature[1..]).is_err());
        let not_on_the_curve = PublicKey::from_coordinates(&x, &x);
        assert_eq!(not_on_the_curve.unwrap_err(), CryptoError);
    }
}
