//! Whether a secret, or a part of one, is in octets that others see.

use hgs_crypto::{base64, hex};

/// Octets of the shortest part that is looked for: too many to be there by accident.
const PART: usize = 12;

/// The first part of `secret` that `seen` holds: as it is, in hexadecimal of either case, or in Base64.
#[must_use]
pub fn part_of(secret: &[u8], seen: &[u8]) -> Option<String> {
    let parts = secret.windows(PART.min(secret.len())).step_by(PART / 2);
    parts
        .flat_map(forms)
        .find(|form| seen.windows(form.len()).any(|window| window == &**form))
        .map(|form| String::from_utf8_lossy(&form).into_owned())
}

fn forms(part: &[u8]) -> Vec<Vec<u8>> {
    let lower = hex::encode(part);
    let mut forms = vec![
        part.to_vec(),
        lower.to_ascii_uppercase().into_bytes(),
        lower.into_bytes(),
    ];
    // Where the part begins within a group of three octets, its first and last characters depend on its neighbours.
    for before in 0..3 {
        let shifted = [&vec![0; before], part].concat();
        let text = base64::encode(&shifted).into_bytes();
        let (first, last) = (before * 4 / 3 + 1, shifted.len() * 4 / 3 - 1);
        forms.extend(text.get(first..last).map(<[u8]>::to_vec));
    }
    forms
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_found_in_every_form() {
        let secret: Vec<u8> = (0..64).map(|number| number * 3 + 1).collect();
        assert_eq!(part_of(&secret, b"nothing of it is in here"), None);
        let inner = &secret[20..50];
        for shift in 0..3 {
            let shifted = [&vec![b'x'; shift], inner].concat();
            let text = format!("a{}b", base64::encode(&shifted));
            assert!(part_of(&secret, text.as_bytes()).is_some(), "{shift}");
        }
        for seen in [
            inner.to_vec(),
            hex::encode(inner).into_bytes(),
            hex::encode(inner).to_ascii_uppercase().into_bytes(),
        ] {
            assert!(part_of(&secret, &seen).is_some());
        }
    }
}
