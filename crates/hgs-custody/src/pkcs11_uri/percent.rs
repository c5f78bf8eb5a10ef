//! Percent-encoding [RFC 3986 section 2.1], strict: what need not be encoded may be, the rest must.

use std::fmt::Write as _;

/// What may stand plain in a value of RFC 7512 section 2.3, in the path and in the query together.
/// `;` and `&` separate and never come here.
const PLAIN: &[u8] = b"-._~:[]@!$'()*+,=&/?|";

/// The octets of an encoded value, or where the first is that must be encoded, or is encoded badly.
pub(super) fn decode(value: &str) -> Result<Vec<u8>, usize> {
    let mut octets = Vec::with_capacity(value.len());
    let mut rest = value.bytes().enumerate();
    while let Some((place, octet)) = rest.next() {
        match octet {
            b'%' => {
                let mut next = || rest.next().and_then(|(_, octet)| digit(octet)).ok_or(place);
                let high = next()?;
                octets.push(high << 4 | next()?);
            }
            _ if octet.is_ascii_alphanumeric() || PLAIN.contains(&octet) => octets.push(octet),
            _ => return Err(place),
        }
    }
    Ok(octets)
}

/// Encodes all but what is unreserved everywhere and what is in `plain`.
pub(super) fn encode(octets: &[u8], plain: &[u8]) -> String {
    let mut text = String::with_capacity(octets.len());
    for octet in octets {
        let unreserved = octet.is_ascii_alphanumeric() || b"-._~".contains(octet);
        if unreserved || plain.contains(octet) {
            text.push(char::from(*octet));
        } else {
            push_encoded(&mut text, *octet);
        }
    }
    text
}

/// Encodes every octet, as RFC 7512 section 2.3 recommends for identifiers.
pub(super) fn encode_all(octets: &[u8]) -> String {
    let mut text = String::with_capacity(octets.len() * 3);
    octets
        .iter()
        .for_each(|octet| push_encoded(&mut text, *octet));
    text
}

fn push_encoded(text: &mut String, octet: u8) {
    write!(text, "%{octet:02X}").expect("a string takes whatever is written to it");
}

fn digit(octet: u8) -> Option<u8> {
    let value = char::from(octet).to_digit(16)?;
    u8::try_from(value).ok()
}
