//! The encrypted content: chunks of 64 KiB, each authentic for itself, its place and whether it is the last (STREAM,
//! Hoang, Reyhanitabar, Rogaway and Vizár, 2015).

use std::fmt;
use std::io::{self, BufRead, Read, Write};

use hgs_crypto::hash::hkdf_sha256;
use hgs_crypto::{CryptoError, Random, SecretBytes, chacha20_poly1305, random};
use zeroize::Zeroizing;

use super::AgeError;

/// Octets of content in a chunk.
const CHUNK: usize = 64 * 1024;
const TAG: usize = chacha20_poly1305::TAG_LENGTH;
const NONCE_LENGTH: usize = 16;

/// A file that is being encrypted. Without [`Self::finish`] its end is missing, and readers refuse it.
pub struct Encrypted<W> {
    out: W,
    key: SecretBytes,
    counter: Counter,
    chunk: Zeroizing<Vec<u8>>,
}

/// A file that is being opened. A read fails when the file was changed, or its end is missing.
#[derive(Debug)]
pub struct Decrypted<R> {
    file: R,
    key: SecretBytes,
    counter: Counter,
    sealed: Vec<u8>,
    chunk: SecretBytes,
    taken: usize,
    ended: bool,
    /// The last chunk that was given out was authentic, and what should follow it does not.
    broken: bool,
}

impl<W: Write> Encrypted<W> {
    pub(super) fn begin(
        mut out: W,
        file_key: &SecretBytes,
        random: &mut dyn Random,
    ) -> Result<Self, AgeError> {
        let nonce = random::array::<NONCE_LENGTH>(random)?;
        out.write_all(&nonce)?;
        Ok(Self {
            out,
            key: payload_key(file_key, &nonce)?,
            counter: Counter::default(),
            chunk: Zeroizing::new(Vec::with_capacity(CHUNK)),
        })
    }

    /// Writes the end.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn finish(mut self) -> io::Result<W> {
        self.seal(true)?;
        self.out.flush()?;
        Ok(self.out)
    }

    fn seal(&mut self, last: bool) -> io::Result<()> {
        let nonce = self.counter.nonce(last)?;
        let tag = chacha20_poly1305::seal(&self.key, nonce, b"", &mut self.chunk)
            .map_err(io::Error::other)?;
        self.out.write_all(&self.chunk)?;
        self.out.write_all(&tag)?;
        self.chunk.clear();
        Ok(())
    }
}

impl<W: Write> Write for Encrypted<W> {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        // A full chunk waits until it is known whether it is the last.
        if self.chunk.len() == CHUNK && !octets.is_empty() {
            self.seal(false)?;
        }
        let taken = octets.len().min(CHUNK - self.chunk.len());
        self.chunk
            .extend_from_slice(octets.get(..taken).unwrap_or_default());
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        // Only whole chunks can be written.
        self.out.flush()
    }
}

impl<R: BufRead> Decrypted<R> {
    pub(super) fn begin(mut file: R, file_key: &SecretBytes) -> Result<Self, AgeError> {
        let mut nonce = [0; NONCE_LENGTH];
        file.read_exact(&mut nonce)
            .map_err(|error| match error.kind() {
                io::ErrorKind::UnexpectedEof => AgeError::File(changed()),
                _ => AgeError::File(error),
            })?;
        Ok(Self {
            file,
            key: payload_key(file_key, &nonce)?,
            counter: Counter::default(),
            sealed: Vec::with_capacity(CHUNK + TAG),
            chunk: SecretBytes::new(Vec::new()),
            taken: 0,
            ended: false,
            broken: false,
        })
    }

    fn next_chunk(&mut self) -> io::Result<()> {
        if self.broken {
            return Err(changed());
        }
        self.sealed.clear();
        let mut file = self.file.by_ref().take((CHUNK + TAG) as u64);
        file.read_to_end(&mut self.sealed)?;
        let last = self.file.fill_buf()?.is_empty();
        let first = self.counter.0 == 0;
        let nonce = self.counter.nonce(last)?;
        let open = |nonce| chacha20_poly1305::open(&self.key, nonce, b"", &self.sealed);
        self.chunk = match open(nonce) {
            Ok(chunk) => chunk,
            // A full chunk that is authentic, with something after the last one, or without a last one: it is given out as
            // other programs do, and then the file is refused.
            Err(_) if self.sealed.len() == CHUNK + TAG => {
                self.broken = true;
                open(with_last(nonce, !last)).map_err(|_| changed())?
            }
            Err(_) => return Err(changed()),
        };
        self.taken = 0;
        self.ended = last && !self.broken;
        // Only an empty file has an empty chunk: there is one way to write each content.
        if self.chunk.is_empty() && !first {
            return Err(changed());
        }
        Ok(())
    }
}

impl<R: BufRead> Read for Decrypted<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.taken == self.chunk.len() && !self.ended {
            self.next_chunk()?;
        }
        let left = self.chunk.expose().get(self.taken..).unwrap_or_default();
        let count = left.len().min(out.len());
        for (place, octet) in out.iter_mut().zip(left) {
            *place = *octet;
        }
        self.taken += count;
        Ok(count)
    }
}

/// The chunk is a secret.
impl<W: fmt::Debug> fmt::Debug for Encrypted<W> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = &mut formatter.debug_struct("Encrypted");
        shown.field("out", &self.out).finish_non_exhaustive()
    }
}

fn changed() -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        "the encrypted file was changed or cut off",
    )
}

fn payload_key(file_key: &SecretBytes, nonce: &[u8]) -> Result<SecretBytes, CryptoError> {
    hkdf_sha256(file_key, nonce, b"payload", chacha20_poly1305::KEY_LENGTH)
}

fn with_last(
    mut nonce: [u8; chacha20_poly1305::NONCE_LENGTH],
    last: bool,
) -> [u8; chacha20_poly1305::NONCE_LENGTH] {
    nonce[11] = u8::from(last);
    nonce
}

/// The number of the next chunk.
#[derive(Debug, Default)]
struct Counter(u64);

impl Counter {
    /// 11 octets of the number, one that says whether the chunk is the last.
    fn nonce(&mut self, last: bool) -> io::Result<[u8; chacha20_poly1305::NONCE_LENGTH]> {
        let mut nonce = [0; chacha20_poly1305::NONCE_LENGTH];
        let number = nonce.iter_mut().skip(3).zip(self.0.to_be_bytes());
        number.for_each(|(place, octet)| *place = octet);
        nonce = with_last(nonce, last);
        self.0 = self
            .0
            .checked_add(1)
            .ok_or_else(|| io::Error::other("the file is too long"))?;
        Ok(nonce)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sealed(content: &[u8]) -> Vec<u8> {
        let key = SecretBytes::new(vec![1; 16]);
        let random = &mut random::System::new();
        let mut file = Encrypted::begin(Vec::new(), &key, random).unwrap();
        // In pieces that don't fit the chunks.
        content
            .chunks(1000)
            .for_each(|piece| file.write_all(piece).unwrap());
        file.finish().unwrap()
    }

    fn opened(file: &[u8]) -> io::Result<Vec<u8>> {
        let key = SecretBytes::new(vec![1; 16]);
        let mut content = Vec::new();
        match Decrypted::begin(file, &key) {
            Ok(mut file) => file.read_to_end(&mut content)?,
            Err(AgeError::File(error)) => return Err(error),
            Err(other) => panic!("{other}"),
        };
        Ok(content)
    }

    #[test]
    fn content_of_every_length_around_chunks_comes_back() {
        for length in [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK] {
            let content: Vec<u8> = (0..length).map(|place| (place % 251) as u8).collect();
            let file = sealed(&content);
            let chunks = length.div_ceil(CHUNK).max(1);
            assert_eq!(file.len(), NONCE_LENGTH + length + chunks * TAG);
            assert_eq!(opened(&file).unwrap(), content);
        }
    }

    #[test]
    fn what_is_cut_off_changed_or_lengthened_is_found() {
        let content = vec![7; 2 * CHUNK];
        let file = sealed(&content);
        let chunk = CHUNK + TAG;
        for length in [
            0,
            NONCE_LENGTH,
            NONCE_LENGTH + 1,
            NONCE_LENGTH + chunk,
            file.len() - 1,
        ] {
            assert!(opened(&file[..length]).is_err(), "cut at {length}");
        }
        for place in [0, NONCE_LENGTH, NONCE_LENGTH + chunk, file.len() - 1] {
            let mut changed = file.clone();
            changed[place] ^= 1;
            assert!(opened(&changed).is_err(), "changed at {place}");
        }
        assert!(opened(&[&file[..], &[0]].concat()).is_err());
        let swapped = [
            &file[..NONCE_LENGTH],
            &file[NONCE_LENGTH + chunk..],
            &file[NONCE_LENGTH..NONCE_LENGTH + chunk],
        ];
        assert!(opened(&swapped.concat()).is_err());
    }

    /// attacks.md K9.
    #[test]
    fn k9_debug_shows_no_content() {
        let key = SecretBytes::new(vec![1; 16]);
        let mut file = Encrypted::begin(io::sink(), &key, &mut random::System::new()).unwrap();
        file.write_all(b"AAAA").unwrap();
        let shown = format!("{file:?}");
        assert_eq!(shown, "Encrypted { out: Sink, .. }");
        let file = sealed(b"AAAA");
        let mut reader = Decrypted::begin(&file[..], &key).unwrap();
        reader.read_exact(&mut [0; 2]).unwrap();
        let shown = format!("{reader:?}");
        assert!(shown.contains("chunk: SecretBytes(..)"), "{shown}");
    }

    #[test]
    fn nothing_is_given_out_before_it_is_authentic() {
        let mut file = sealed(&vec![7; 2 * CHUNK]);
        let last = file.len() - 1;
        file[last] ^= 1;
        let mut reader = Decrypted::begin(&file[..], &SecretBytes::new(vec![1; 16])).unwrap();
        let mut content = Vec::new();
        reader.read_to_end(&mut content).unwrap_err();
        assert_eq!(content.len(), CHUNK, "the first chunk was as it should be");
    }
}
