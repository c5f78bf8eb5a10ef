//! ChaCha20-Poly1305 [RFC 8439].
//!
//! [RFC 8439]: https://www.rfc-editor.org/rfc/rfc8439

use aws_lc_rs::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};

use crate::{CryptoError, SecretBytes};

/// Octets of a key.
pub const KEY_LENGTH: usize = 32;
/// Octets of a nonce.
pub const NONCE_LENGTH: usize = 12;
/// Octets of a tag.
pub const TAG_LENGTH: usize = 16;

/// Encrypts `text` where it stands and returns the tag. A nonce must never be used twice with one key.
///
/// # Errors
/// When the key is not 32 octets.
pub fn seal(
    key: &SecretBytes,
    nonce: [u8; NONCE_LENGTH],
    additional_data: &[u8],
    text: &mut [u8],
) -> Result<[u8; TAG_LENGTH], CryptoError> {
    let nonce = Nonce::assume_unique_for_key(nonce);
    let tag = prepared(key)?
        .seal_in_place_separate_tag(nonce, Aad::from(additional_data), text)
        .map_err(|_| CryptoError)?;
    tag.as_ref().try_into().map_err(|_| CryptoError)
}

/// Opens a ciphertext that ends with its tag.
///
/// # Errors
/// When the key, the nonce, the additional data or any octet is not the one that was sealed.
pub fn open(
    key: &SecretBytes,
    nonce: [u8; NONCE_LENGTH],
    additional_data: &[u8],
    sealed: &[u8],
) -> Result<SecretBytes, CryptoError> {
    let (ciphertext, tag) = sealed.split_last_chunk::<TAG_LENGTH>().ok_or(CryptoError)?;
    let nonce = Nonce::assume_unique_for_key(nonce);
    let mut plaintext = zeroize::Zeroizing::new(vec![0; ciphertext.len()]);
    prepared(key)?
        .open_separate_gather(
            nonce,
            Aad::from(additional_data),
            ciphertext,
            tag,
            &mut plaintext,
        )
        .map_err(|_| CryptoError)?;
    Ok(SecretBytes::new(std::mem::take(&mut plaintext)))
}

fn prepared(key: &SecretBytes) -> Result<LessSafeKey, CryptoError> {
    let key = UnboundKey::new(&CHACHA20_POLY1305, key.expose()).map_err(|_| CryptoError)?;
    Ok(LessSafeKey::new(key))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hex;

    /// RFC 8439 section 2.8.2.
    #[test]
    fn the_example_of_rfc_8439() {
        let key = SecretBytes::new((0x80..=0x9f).collect());
        let nonce = [7, 0, 0, 0, 0x40, 0x41, 0x42, 0x43, 0x44, 0x45, 0x46, 0x47];
        let data = hex::decode("50515253c0c1c2c3c4c5c6c7").unwrap();
        let plain = b"Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the future, \
                      sunscreen would be it.";
        let mut text = plain.to_vec();
        let tag = seal(&key, nonce, &data, &mut text).unwrap();
        assert_eq!(hex::encode(&tag), "1ae10b594f09e26a7e902ecbd0600691");
        assert_eq!(hex::encode(&text[..16]), "d31a8d34648e60db7b86afbc53ef7ec2");
        text.extend_from_slice(&tag);
        let opened = open(&key, nonce, &data, &text).unwrap();
        assert_eq!(opened.expose(), plain);
        for place in 0..text.len() {
            text[place] ^= 1;
            assert_eq!(open(&key, nonce, &data, &text), Err(CryptoError));
            text[place] ^= 1;
        }
        assert_eq!(open(&key, nonce, b"", &text), Err(CryptoError));
        assert_eq!(open(&key, nonce, &data, &text[..15]), Err(CryptoError));
    }
}
