//! Bech32 (BIP 173) without its limit of 90 characters, as age writes keys.

use zeroize::Zeroizing;

const ALPHABET: &[u8; 32] = b"qpzry9x8gf2tvdw0s3jn54khce6mua7l";
const CHECKSUM_LENGTH: usize = 6;

/// `octets` under the prefix `name`, both in lower case.
pub(super) fn encode(name: &str, octets: &[u8]) -> String {
    let data = regroup(octets.iter().copied(), 8, 5, true).unwrap_or_default();
    let checked = expanded(name)
        .chain(data.iter().copied())
        .chain([0; CHECKSUM_LENGTH]);
    let checksum = polymod(checked) ^ 1;
    let places = (0..CHECKSUM_LENGTH).rev();
    let checksum = places.map(|place| ((checksum >> (5 * place)) & 31) as u8);
    let characters = data.iter().copied().chain(checksum);
    let characters = characters.map(|group| char::from(ALPHABET[usize::from(group & 31)]));
    format!("{name}1{}", characters.collect::<String>())
}

/// The octets of `text`, which must have the prefix `name` (in lower case) and be in one case.
pub(super) fn decode(name: &str, text: &str) -> Option<Zeroizing<Vec<u8>>> {
    let mixed = text.bytes().any(|c| c.is_ascii_lowercase())
        && text.bytes().any(|c| c.is_ascii_uppercase());
    let (prefix, data) = text.rsplit_once('1')?;
    if mixed || !prefix.eq_ignore_ascii_case(name) {
        return None;
    }
    let groups = data.bytes().map(|c| {
        let place = ALPHABET
            .iter()
            .position(|known| *known == c.to_ascii_lowercase());
        place.and_then(|place| u8::try_from(place).ok())
    });
    let groups = Zeroizing::new(groups.collect::<Option<Vec<u8>>>()?);
    let (data, checksum) = groups.split_at_checked(groups.len().checked_sub(CHECKSUM_LENGTH)?)?;
    let checked = expanded(name).chain(data.iter().chain(checksum).copied());
    if polymod(checked) != 1 {
        return None;
    }
    regroup(data.iter().copied(), 5, 8, false)
}

fn expanded(name: &str) -> impl Iterator<Item = u8> {
    let high = name.bytes().map(|c| c >> 5);
    high.chain([0]).chain(name.bytes().map(|c| c & 31))
}

fn polymod(groups: impl Iterator<Item = u8>) -> u32 {
    const GENERATOR: [u32; 5] = [
        0x3b6a_57b2,
        0x2650_8e6d,
        0x1ea1_19fa,
        0x3d42_33dd,
        0x2a14_62b3,
    ];
    groups.fold(1, |checksum: u32, group| {
        let top = checksum >> 25;
        let next = ((checksum & 0x01ff_ffff) << 5) ^ u32::from(group);
        let terms = GENERATOR.iter().enumerate();
        terms.fold(next, |sum, (bit, term)| {
            if (top >> bit) & 1 == 1 {
                sum ^ term
            } else {
                sum
            }
        })
    })
}

/// Takes groups of `from` bits for groups of `to` bits. What is left over is padded with zeros, or must be less than a
/// group and zero.
fn regroup(
    groups: impl Iterator<Item = u8>,
    from: u32,
    to: u32,
    pad: bool,
) -> Option<Zeroizing<Vec<u8>>> {
    let (mut bits, mut count) = (0_u32, 0);
    // Room for all, so that no reallocation leaves a part of a private key behind.
    let mut out = Zeroizing::new(Vec::with_capacity(128));
    for group in groups {
        bits = (bits << from) | u32::from(group);
        count += from;
        while count >= to {
            count -= to;
            out.push(((bits >> count) & ((1 << to) - 1)) as u8);
            bits &= (1 << count) - 1;
        }
    }
    if pad && count > 0 {
        out.push(((bits << (to - count)) & ((1 << to) - 1)) as u8);
    }
    let sound = pad || (count < from && bits == 0);
    sound.then_some(out)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The vectors of BIP 173, without the one that is over 90 characters.
    #[test]
    fn vectors_of_bip_173() {
        assert_eq!(decode("a", "A12UEL5L").unwrap().len(), 0);
        assert_eq!(decode("a", "a12uel5l").unwrap().len(), 0);
        assert_eq!(encode("a", &[]), "a12uel5l");
        let valid = "abcdef1qpzry9x8gf2tvdw0s3jn54khce6mua7lmqqqxw";
        let octets = decode("abcdef", valid).unwrap();
        assert_eq!(encode("abcdef", &octets), valid);
        for refused in [
            "A1G7SGD8",
            "10a06t8",
            "1qzzfhee",
            "a12UEL5L",
            "pzry9x0s0muk",
            "a1",
            "",
            "b12uel5l",
        ] {
            assert!(decode("a", refused).is_none(), "{refused}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_and_no_slip_goes_unnoticed(octets: [u8; 32], place: prop::sample::Index, other in 0_usize..32) {
            let text = encode("age", &octets);
            let read = decode("age", &text);
            prop_assert_eq!(&**read.as_ref().unwrap(), &octets[..]);
            prop_assert!(decode("age", &text.to_uppercase()).is_some());
            let mut slipped = text.clone().into_bytes();
            let place = 4 + place.index(slipped.len() - 4);
            slipped[place] = ALPHABET[other];
            let slipped = String::from_utf8(slipped).unwrap();
            prop_assert!(slipped == text || decode("age", &slipped).is_none());
        }
    }
}
