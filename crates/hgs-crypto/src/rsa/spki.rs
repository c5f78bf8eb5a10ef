//! The DER of a SubjectPublicKeyInfo [RFC 5280 section 4.1.2.7, RFC 8017 appendix A.1.1].

/// SEQUENCE { rsaEncryption, NULL }.
const RSA_ENCRYPTION: &[u8] = b"\x30\x0d\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01\x05\x00";

/// Encodes an RSA public key of its numbers, which are big-endian and have no leading zeros.
pub(super) fn encode(modulus: &[u8], exponent: &[u8]) -> Vec<u8> {
    let numbers = [integer(modulus), integer(exponent)].concat();
    let key = [&[0], element(0x30, &numbers).as_slice()].concat();
    element(
        0x30,
        &[RSA_ENCRYPTION, element(0x03, &key).as_slice()].concat(),
    )
}

/// `digits` have no leading zero.
fn integer(digits: &[u8]) -> Vec<u8> {
    // A first bit of one would be a minus.
    let negative = digits.first().is_some_and(|first| *first >= 0x80);
    let sign: &[u8] = if negative { &[0] } else { &[] };
    element(0x02, &[sign, digits].concat())
}

fn element(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = content.len().to_be_bytes();
    let zeros = length.iter().take_while(|octet| **octet == 0).count();
    let length = &length[zeros..];
    let header = match length {
        [] => vec![tag, 0],
        [short] if *short < 0x80 => vec![tag, *short],
        long => [&[tag, 0x80 | long.len() as u8], long].concat(),
    };
    [header.as_slice(), content].concat()
}
