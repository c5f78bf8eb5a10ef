//! Recovery keys, in the form of `systemd-cryptenroll --recovery-key`: 32 octets in modhex, whose letters stand at the same
//! places on most keyboards, in eight groups of eight.

use std::fmt;

use hgs_crypto::{CryptoError, Random, SecretBytes};

const ALPHABET: &[u8; 16] = b"cbdefghijklnrtuv";
const OCTETS: usize = 32;
/// Letters between two hyphens.
const GROUP: usize = 8;

/// What opens an encrypted disk without its vTPM.
#[derive(Clone, PartialEq, Eq)]
pub struct RecoveryKey(SecretBytes);

/// Why a text is no recovery key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RecoveryKeyError {
    /// Too few or too many letters.
    #[error("a recovery key has 64 letters, in groups of eight; this has {0}")]
    Length(usize),
    /// A letter that does not occur.
    #[error(
        "a recovery key has the letters c b d e f g h i j k l n r t u v only; letter {0} is none of them"
    )]
    Letter(usize),
}

impl RecoveryKey {
    /// Draws a key.
    ///
    /// # Errors
    /// When the source of randomness fails.
    pub fn random(random: &mut dyn Random) -> Result<Self, CryptoError> {
        let octets = SecretBytes::random(OCTETS, random)?;
        let digits = octets
            .expose()
            .iter()
            .flat_map(|octet| [octet >> 4, octet & 0x0f]);
        let letters = digits.map(|digit| ALPHABET[usize::from(digit)]);
        Ok(Self::grouped(letters))
    }

    /// Reads what the owner typed: letters in either case, with or without hyphens and white space.
    ///
    /// # Errors
    /// When it has another length or other letters.
    pub fn read(text: &str) -> Result<Self, RecoveryKeyError> {
        let separator = |c: &char| *c != '-' && !c.is_ascii_whitespace();
        let count = text.chars().filter(separator).count();
        if count != 2 * OCTETS {
            return Err(RecoveryKeyError::Length(count));
        }
        let letter = |c: char| {
            let lower = c.to_ascii_lowercase();
            u8::try_from(lower)
                .ok()
                .filter(|octet| ALPHABET.contains(octet))
        };
        if let Some(wrong) = text
            .chars()
            .filter(separator)
            .position(|c| letter(c).is_none())
        {
            return Err(RecoveryKeyError::Letter(wrong + 1));
        }
        let letters = text.chars().filter(separator).filter_map(letter);
        Ok(Self::grouped(letters))
    }

    fn grouped(letters: impl Iterator<Item = u8>) -> Self {
        // The whole length at once: a buffer that grows leaves parts of the key in freed memory.
        let mut text = Vec::with_capacity(2 * OCTETS + 2 * OCTETS / GROUP);
        for (place, letter) in letters.enumerate() {
            if place > 0 && place.is_multiple_of(GROUP) {
                text.push(b'-');
            }
            text.push(letter);
        }
        Self(SecretBytes::new(text))
    }

    /// The text, which is also the passphrase of its key slot.
    #[must_use]
    pub fn passphrase(&self) -> &SecretBytes {
        &self.0
    }
}

impl fmt::Debug for RecoveryKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("RecoveryKey")
    }
}

#[cfg(test)]
mod tests {
    use hgs_crypto::random::System;

    use super::*;

    #[test]
    fn a_key_is_read_as_it_was_written_and_as_people_type_it() {
        let key = RecoveryKey::random(&mut System::new()).unwrap();
        let text = String::from_utf8(key.passphrase().expose().to_vec()).unwrap();
        assert_eq!((text.len(), text.matches('-').count()), (71, 7));
        assert_eq!(RecoveryKey::read(&text), Ok(key.clone()));
        let typed = format!(" {}\n", text.replace('-', " ").to_uppercase());
        assert_eq!(RecoveryKey::read(&typed), Ok(key.clone()));
        assert_ne!(key, RecoveryKey::random(&mut System::new()).unwrap());
        assert_eq!(format!("{key:?}"), "RecoveryKey");
    }

    #[test]
    fn other_texts_are_refused_without_repeating_them() {
        assert_eq!(RecoveryKey::read("cbde"), Err(RecoveryKeyError::Length(4)));
        let wrong = "c".repeat(63) + "a";
        assert_eq!(RecoveryKey::read(&wrong), Err(RecoveryKeyError::Letter(64)));
        let wrong = "c".repeat(63) + "\u{131}";
        assert_eq!(RecoveryKey::read(&wrong), Err(RecoveryKeyError::Letter(64)));
    }
}
