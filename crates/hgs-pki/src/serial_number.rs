//! Serial numbers of certificates, as people and records name them.

use std::fmt;
use std::str::FromStr;

use hgs_crypto::hex;

/// The serial number of a certificate, without leading zero octets. Written in hexadecimal.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SerialNumber(Vec<u8>);

/// Not a serial number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a serial number has 1 to 20 octets in hexadecimal")]
pub struct SerialNumberError;

impl SerialNumber {
    /// From the octets of the DER INTEGER; leading zeros carry no value.
    ///
    /// # Errors
    /// When there are none, or more than the 20 that RFC 5280 section 4.1.2.2 allows.
    pub fn from_bytes(octets: &[u8]) -> Result<Self, SerialNumberError> {
        let value = without_zeros(octets);
        match !octets.is_empty() && value.len() <= 20 {
            true => Ok(Self(value.to_vec())),
            false => Err(SerialNumberError),
        }
    }
}

impl SerialNumber {
    /// Its octets.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl From<[u8; 16]> for SerialNumber {
    fn from(octets: [u8; 16]) -> Self {
        Self(without_zeros(&octets).to_vec())
    }
}

fn without_zeros(octets: &[u8]) -> &[u8] {
    let zeros = octets.iter().take_while(|octet| **octet == 0).count();
    match octets.get(zeros..) {
        None | Some([]) => &[0],
        Some(value) => value,
    }
}

impl fmt::Display for SerialNumber {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&hex::encode(&self.0))
    }
}

impl fmt::Debug for SerialNumber {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "SerialNumber({self})")
    }
}

impl FromStr for SerialNumber {
    type Err = SerialNumberError;

    fn from_str(text: &str) -> Result<Self, SerialNumberError> {
        Self::from_bytes(&hex::decode(text).ok_or(SerialNumberError)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn serial_numbers_have_one_form() {
        let serial = SerialNumber::from_bytes(&[0, 0xa5, 0]).unwrap();
        assert_eq!(serial, "A5:00".parse().unwrap());
        assert_eq!(serial.to_string(), "a500");
        assert_eq!(SerialNumber::from_bytes(&[0]).unwrap().to_string(), "00");
        for octets in [&[][..], &[1; 21]] {
            assert_eq!(SerialNumber::from_bytes(octets), Err(SerialNumberError));
        }
    }
}
