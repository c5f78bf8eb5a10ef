//! AES-256 in Galois/Counter mode [NIST SP 800-38D], AES key wrap [RFC 3394], and AES-128 in cipher feedback mode
//! [NIST SP 800-38A] as TPMs have it.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::cipher::{
    AES_128, DecryptingKey, DecryptionContext, EncryptingKey, EncryptionContext, UnboundCipherKey,
};
use aws_lc_rs::iv::FixedLength;
use aws_lc_rs::key_wrap::{AES_256, AesKek, KeyWrap as _};

use crate::{CryptoError, Random, SecretBytes, random};

/// Octets of an AES-256 key.
pub const KEY_LENGTH: usize = 32;
/// Octets of a GCM initialisation vector, as in XML Encryption 1.1 section 5.2.4.
pub const IV_LENGTH: usize = 12;
/// Octets of a GCM tag.
pub const TAG_LENGTH: usize = 16;

/// Encrypts with a fresh IV and returns IV, ciphertext and tag in one, the layout of
/// `http://www.w3.org/2009/xmlenc11#aes256-gcm`.
///
/// # Errors
/// When the key is not 32 octets or randomness fails.
pub fn gcm_seal(
    key: &SecretBytes,
    additional_data: &[u8],
    plaintext: &[u8],
    random: &mut dyn Random,
) -> Result<Vec<u8>, CryptoError> {
    let iv = random::array::<IV_LENGTH>(random)?;
    let mut sealed = Vec::with_capacity(IV_LENGTH + plaintext.len() + TAG_LENGTH);
    sealed.extend_from_slice(&iv);
    // Room for the tag is there already, so the plaintext is encrypted where it stands and no
    // reallocation leaves a copy of it.
    sealed.extend_from_slice(plaintext);
    let (_, text) = sealed.split_at_mut(IV_LENGTH);
    let tag = gcm_key(key)?
        .seal_in_place_separate_tag(
            Nonce::assume_unique_for_key(iv),
            Aad::from(additional_data),
            text,
        )
        .map_err(|_| CryptoError)?;
    sealed.extend_from_slice(tag.as_ref());
    Ok(sealed)
}

/// Decrypts the output of [`gcm_seal`].
///
/// # Errors
/// When the key, the additional data or any octet is not the one that was sealed.
pub fn gcm_open(
    key: &SecretBytes,
    additional_data: &[u8],
    sealed: &[u8],
) -> Result<SecretBytes, CryptoError> {
    let (iv, rest) = sealed.split_first_chunk::<IV_LENGTH>().ok_or(CryptoError)?;
    let (ciphertext, tag) = rest.split_last_chunk::<TAG_LENGTH>().ok_or(CryptoError)?;
    let mut plaintext = zeroize::Zeroizing::new(vec![0; ciphertext.len()]);
    gcm_key(key)?
        .open_separate_gather(
            Nonce::assume_unique_for_key(*iv),
            Aad::from(additional_data),
            ciphertext,
            tag,
            &mut plaintext,
        )
        .map_err(|_| CryptoError)?;
    Ok(SecretBytes::new(std::mem::take(&mut plaintext)))
}

/// Wraps key material of a multiple of eight octets, at least sixteen
/// (`http://www.w3.org/2001/04/xmlenc#kw-aes256`).
///
/// # Errors
/// When a length does not fit.
pub fn key_wrap(key: &SecretBytes, material: &SecretBytes) -> Result<Vec<u8>, CryptoError> {
    let mut wrapped = vec![0; material.len() + 8];
    let length = AesKek::new(&AES_256, key.expose())
        .and_then(|kek| {
            kek.wrap(material.expose(), &mut wrapped)
                .map(|wrapped| wrapped.len())
        })
        .map_err(|_| CryptoError)?;
    wrapped.truncate(length);
    Ok(wrapped)
}

/// Unwraps the output of [`key_wrap`].
///
/// # Errors
/// When the integrity check of RFC 3394 fails or a length does not fit.
pub fn key_unwrap(key: &SecretBytes, wrapped: &[u8]) -> Result<SecretBytes, CryptoError> {
    let mut material = zeroize::Zeroizing::new(vec![0; wrapped.len()]);
    let length = AesKek::new(&AES_256, key.expose())
        .and_then(|kek| {
            kek.unwrap(wrapped, &mut material)
                .map(|material| material.len())
        })
        .map_err(|_| CryptoError)?;
    material.truncate(length);
    Ok(SecretBytes::new(std::mem::take(&mut material)))
}

/// Decrypts AES-128-CFB, by which TPMs encrypt parameters (TPM 2.0 Library, part 1, 21.3). It authenticates nothing: the
/// HMAC of the session does.
///
/// # Errors
/// When the key is not 16 octets.
pub fn cfb128_decrypt(
    key: &SecretBytes,
    iv: [u8; 16],
    ciphertext: &[u8],
) -> Result<SecretBytes, CryptoError> {
    let decrypt = |plaintext: &mut [u8]| {
        let key = UnboundCipherKey::new(&AES_128, key.expose())?;
        let context = DecryptionContext::Iv128(FixedLength::from(iv));
        DecryptingKey::cfb128(key)?
            .decrypt(plaintext, context)
            .map(|_| ())
    };
    let mut plaintext = zeroize::Zeroizing::new(ciphertext.to_vec());
    decrypt(&mut plaintext).map_err(|_: aws_lc_rs::error::Unspecified| CryptoError)?;
    Ok(SecretBytes::new(std::mem::take(&mut plaintext)))
}

/// AES-128 in the mode CFB-128: encrypts what a TPM decrypts. The context must make key or IV new.
///
/// # Errors
/// When the key is not 16 octets.
pub fn cfb128_encrypt(
    key: &SecretBytes,
    iv: [u8; 16],
    plaintext: &SecretBytes,
) -> Result<Vec<u8>, CryptoError> {
    let encrypt = |octets: &mut [u8]| {
        let key = UnboundCipherKey::new(&AES_128, key.expose())?;
        let context = EncryptionContext::Iv128(FixedLength::from(iv));
        EncryptingKey::cfb128(key)?
            .less_safe_encrypt(octets, context)
            .map(|_| ())
    };
    let mut octets = zeroize::Zeroizing::new(plaintext.expose().to_vec());
    encrypt(&mut octets).map_err(|_: aws_lc_rs::error::Unspecified| CryptoError)?;
    Ok(std::mem::take(&mut octets))
}

fn gcm_key(key: &SecretBytes) -> Result<LessSafeKey, CryptoError> {
    let key = UnboundKey::new(&AES_256_GCM, key.expose()).map_err(|_| CryptoError)?;
    Ok(LessSafeKey::new(key))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::hex;
    use crate::random::System;

    // RFC 3394 section 4.6: 256 bits of key data with a 256-bit KEK.
    #[test]
    fn key_wrap_of_rfc_3394() {
        let key = SecretBytes::new((0x00..=0x1f).collect());
        let data = hex::decode("00112233445566778899aabbccddeeff000102030405060708090a0b0c0d0e0f");
        let data = SecretBytes::new(data.unwrap());
        let wrapped = key_wrap(&key, &data).unwrap();
        assert_eq!(
            hex::encode(&wrapped),
            "28c9f404c4b810f4cbccb35cfb87f8263f5786e2d80ed326cbc7f0e71a99f43bfb988b9b7a02dd21"
        );
        assert_eq!(key_unwrap(&key, &wrapped), Ok(data));
    }

    // NIST SP 800-38A, F.3.14 (CFB128-AES128.Decrypt), all segments, and the first with a part of the second.
    #[test]
    fn cfb_of_nist_sp_800_38a() {
        let octets = |text| hex::decode(text).unwrap();
        let key = SecretBytes::new(octets("2b7e151628aed2a6abf7158809cf4f3c"));
        let iv: [u8; 16] = std::array::from_fn(|n| n as u8);
        let ciphertext = octets(
            "3b3fd92eb72dad20333449f8e83cfb4ac8a64537a0b3a93fcde3cdad9f1ce58b26751f67a3cbb140b1808cf187a4f4dfc04b05357c5d1c0eeac4c66f9ff7f2e6",
        );
        let plaintext = octets(
            "6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e5130c81c46a35ce411e5fbc1191a0a52eff69f2445df4f9b17ad2b417be66c3710",
        );
        for length in [64, 19] {
            let opened = cfb128_decrypt(&key, iv, &ciphertext[..length]).unwrap();
            assert_eq!(opened.expose(), &plaintext[..length]);
            let encrypted = cfb128_encrypt(&key, iv, &plaintext[..length].into());
            assert_eq!(encrypted.unwrap(), &ciphertext[..length]);
        }
        let short = SecretBytes::new(vec![0; 15]);
        assert_eq!(cfb128_decrypt(&short, iv, &ciphertext), Err(CryptoError));
    }

    proptest! {
        #[test]
        fn gcm_round_trip_and_tampering(plain: Vec<u8>, aad: Vec<u8>, place: prop::sample::Index, flip in 1u8..) {
            let key = SecretBytes::new(vec![9; KEY_LENGTH]);
            let mut sealed = gcm_seal(&key, &aad, &plain, &mut System::new()).unwrap();
            prop_assert_eq!(gcm_open(&key, &aad, &sealed), Ok(SecretBytes::from(&plain[..])));
            let place = place.index(sealed.len());
            sealed[place] ^= flip;
            prop_assert_eq!(gcm_open(&key, &aad, &sealed), Err(CryptoError));
        }
    }

    #[test]
    fn truncated_ciphertexts_are_refused() {
        let key = SecretBytes::new(vec![9; KEY_LENGTH]);
        let sealed = gcm_seal(&key, b"", b"text", &mut System::new()).unwrap();
        for length in 0..sealed.len() {
            assert_eq!(gcm_open(&key, b"", &sealed[..length]), Err(CryptoError));
        }
    }
}
