//! BER as PFX files and PKCS#7 bundles of NSS and Bouncy Castle have it: lengths that are not known in advance, and
//! octet strings in pieces [X.690 8.1.3.6, 8.7.3]. It is turned into the one form that DER is, which parsers read.

use hgs_crypto::SecretBytes;

/// Elements within elements that are followed.
const MAX_DEPTH: usize = 32;

/// The octets are not BER.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("malformed ASN.1")]
pub(crate) struct Malformed;

pub(crate) const INTEGER: u8 = 0x02;
pub(crate) const BIT_STRING: u8 = 0x03;
pub(crate) const OCTET_STRING: u8 = 0x04;
pub(crate) const NULL: u8 = 0x05;
pub(crate) const OBJECT_IDENTIFIER: u8 = 0x06;
pub(crate) const SEQUENCE: u8 = 0x30;
pub(crate) const SET: u8 = 0x31;
/// What is `[0]` in its type, and constructed.
pub(crate) const CONTEXT_0: u8 = 0xa0;
/// What is `[0]` in its type, and primitive.
pub(crate) const CONTEXT_0_PRIMITIVE: u8 = 0x80;
const CONSTRUCTED: u8 = 0x20;
/// What ends an element whose length is not given.
const END_OF_CONTENTS: &[u8] = &[0, 0];

/// One element.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Element<'a> {
    /// Identifier octet; numbers above 30 do not occur in what is read here.
    pub(crate) tag: u8,
    pub(crate) content: &'a [u8],
    /// The element with its identifier and length.
    pub(crate) whole: &'a [u8],
}

/// Reads elements of DER one after the other.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Elements<'a>(&'a [u8]);

impl<'a> Elements<'a> {
    pub(crate) fn of(octets: &'a [u8]) -> Self {
        Self(octets)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn next(&mut self) -> Result<Element<'a>, Malformed> {
        let (tag, length, header) = header(self.0)?;
        let end = header
            .checked_add(length.ok_or(Malformed)?)
            .ok_or(Malformed)?;
        let whole = self.0.get(..end).ok_or(Malformed)?;
        let content = whole.get(header..).ok_or(Malformed)?;
        self.0 = self.0.get(end..).ok_or(Malformed)?;
        Ok(Element {
            tag,
            content,
            whole,
        })
    }

    /// The next element, which must have this tag.
    pub(crate) fn expect(&mut self, tag: u8) -> Result<&'a [u8], Malformed> {
        let element = self.next()?;
        (element.tag == tag)
            .then_some(element.content)
            .ok_or(Malformed)
    }

    /// The elements of the next SEQUENCE.
    pub(crate) fn sequence(&mut self) -> Result<Self, Malformed> {
        self.expect(SEQUENCE).map(Self)
    }

    /// The next element if it has this tag.
    pub(crate) fn optional(&mut self, tag: u8) -> Result<Option<&'a [u8]>, Malformed> {
        match self.0.first() {
            Some(found) if *found == tag => self.expect(tag).map(Some),
            _ => Ok(None),
        }
    }
}

/// A small number that is not negative.
pub(crate) fn number(content: &[u8]) -> Result<u64, Malformed> {
    match content {
        [] => Err(Malformed),
        [first, ..] if *first >= 0x80 || content.len() > 8 => Err(Malformed),
        _ => Ok(content
            .iter()
            .fold(0, |number, octet| number << 8 | u64::from(*octet))),
    }
}

/// The first element of `octets` in DER; what follows it is an error. Copies are wiped: keys may stand in the clear.
pub(crate) fn to_der(octets: &[u8]) -> Result<SecretBytes, Malformed> {
    let mut out = Vec::with_capacity(octets.len() + 64);
    let rest = write(octets, &mut out, 0);
    let out = SecretBytes::new(out);
    match rest?.is_empty() {
        true => Ok(out),
        false => Err(Malformed),
    }
}

/// Writes the first element and gives what follows it.
fn write<'a>(octets: &'a [u8], out: &mut Vec<u8>, depth: usize) -> Result<&'a [u8], Malformed> {
    if depth > MAX_DEPTH {
        return Err(Malformed);
    }
    let (tag, length, header) = header(octets)?;
    let after_header = octets.get(header..).ok_or(Malformed)?;
    let (content, rest) = match length {
        Some(length) => {
            let content = after_header.get(..length).ok_or(Malformed)?;
            (content, after_header.get(length..).ok_or(Malformed)?)
        }
        None if tag & CONSTRUCTED == 0 => return Err(Malformed),
        None => (after_header, &[][..]),
    };
    if tag & CONSTRUCTED == 0 {
        write_element(tag, content, out);
        return Ok(rest);
    }
    let mut children = Vec::with_capacity(content.len());
    let mut unread = content;
    let outcome = loop {
        match length {
            Some(_) if unread.is_empty() => break Ok(rest),
            None if unread.starts_with(END_OF_CONTENTS) => {
                break Ok(&unread[END_OF_CONTENTS.len()..]);
            }
            _ => match write(unread, &mut children, depth + 1) {
                Ok(left) => unread = left,
                Err(error) => break Err(error),
            },
        }
    };
    let children = SecretBytes::new(children);
    let rest = outcome?;
    if tag == OCTET_STRING | CONSTRUCTED {
        let pieces = SecretBytes::new(joined(children.expose())?);
        write_element(OCTET_STRING, pieces.expose(), out);
    } else {
        write_element(tag, children.expose(), out);
    }
    Ok(rest)
}

/// The content of an octet string that is given in pieces.
pub(crate) fn joined(pieces: &[u8]) -> Result<Vec<u8>, Malformed> {
    let mut whole = Vec::with_capacity(pieces.len());
    let mut pieces = Elements::of(pieces);
    while !pieces.is_empty() {
        whole.extend_from_slice(pieces.expect(OCTET_STRING)?);
    }
    Ok(whole)
}

/// How many octets the first element takes, as its header says; `None` where the header leaves it open, or is none.
pub(crate) fn declared_length(octets: &[u8]) -> Option<usize> {
    let (_, length, header) = header(octets).ok()?;
    header.checked_add(length?)
}

/// Writes one element of DER.
pub(crate) fn write_element(tag: u8, content: &[u8], out: &mut Vec<u8>) {
    out.push(tag);
    let length = content.len();
    if length < 0x80 {
        out.push(u8::try_from(length).unwrap_or_default());
    } else {
        let octets = length.to_be_bytes();
        let leading = octets.iter().take_while(|octet| **octet == 0).count();
        let octets = octets.get(leading..).unwrap_or_default();
        out.push(0x80 | u8::try_from(octets.len()).unwrap_or_default());
        out.extend_from_slice(octets);
    }
    out.extend_from_slice(content);
}

/// Tag, length if it is given, and how many octets both take.
fn header(octets: &[u8]) -> Result<(u8, Option<usize>, usize), Malformed> {
    let [tag, length, rest @ ..] = octets else {
        return Err(Malformed);
    };
    if tag & 0x1f == 0x1f {
        return Err(Malformed);
    }
    match *length {
        short @ 0..0x80 => Ok((*tag, Some(usize::from(short)), 2)),
        0x80 => Ok((*tag, None, 2)),
        long => {
            let count = usize::from(long & 0x7f);
            let octets = rest.get(..count).filter(|_| count <= 4).ok_or(Malformed)?;
            let length = octets
                .iter()
                .fold(0, |length, octet| length << 8 | usize::from(*octet));
            Ok((*tag, Some(length), 2 + count))
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn pieces_and_open_lengths_become_der() {
        // SEQUENCE { OCTET STRING in two pieces, one of them in pieces again; INTEGER 3 }
        let ber = b"\x30\x80\x24\x80\x04\x01a\x24\x80\x04\x01b\0\0\0\0\x02\x01\x03\0\0";
        assert_eq!(
            to_der(ber).unwrap().expose(),
            b"\x30\x07\x04\x02ab\x02\x01\x03"
        );
        let long = [&b"\x04\x82\x01\x2c"[..], &[7; 300]].concat();
        assert_eq!(to_der(&long).unwrap().expose(), long);
        for malformed in [
            &b""[..],
            b"\x30",
            b"\x30\x80",
            b"\x04\x80\0\0",
            b"\x04\x02a",
            b"\x04\x01ab",
            b"\x1f\x01\x01",
        ] {
            assert_eq!(to_der(malformed), Err(Malformed), "{malformed:?}");
        }
        assert_eq!(to_der(&[0x30, 0x80].repeat(40)), Err(Malformed));
    }

    proptest! {
        #[test]
        fn any_octets_are_der_afterwards_or_refused(octets in prop::collection::vec(prop_oneof![Just(0x30), Just(0x80), Just(0), Just(0x24), Just(4), any::<u8>()], 0..40)) {
            if let Ok(der) = to_der(&octets) {
                prop_assert_eq!(to_der(der.expose()), Ok(der.clone()));
            }
        }
    }
}
