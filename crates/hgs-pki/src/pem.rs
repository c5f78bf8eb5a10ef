//! The textual encoding of RFC 7468 (PEM): the one reader of its blocks, and the one writer.
//!
//! The reader takes what people have: a byte-order mark, line ends of Windows, indented lines, a boundary that follows
//! another without a line end (`cat a.pem b.pem` where `a.pem` has none), and the invisible characters that web pages
//! and chats put between the visible ones. It drops nothing: each block is returned, with any label, or there is
//! an error with the line.

use std::borrow::Cow;
use std::fmt::Write as _;

use hgs_crypto::text::named;
use hgs_crypto::{SecretBytes, base64, text};

use crate::{Certificate, CertificateError};

/// Octets of the longest text that is read: all authorities that a system trusts, with explanations between them.
pub const MAX_OCTETS: usize = 4 * 1024 * 1024;
/// Certificates that one text may hold.
pub const MAX_CERTIFICATES: usize = 64;

/// Blocks that one text may hold.
const MAX_BLOCKS: usize = 2048;
const BEGIN: &str = "-----BEGIN ";
const END: &str = "-----END ";
const DASHES: &str = "-----";

/// One block of a text. `Debug` does not show its octets, which may be a private key's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    /// The text between `BEGIN` and the dashes.
    pub label: String,
    /// The decoded octets.
    pub octets: SecretBytes,
    /// Whether RFC 1421 headers say that the octets are encrypted (`Proc-Type: 4,ENCRYPTED`).
    pub is_encrypted_by_header: bool,
    /// The line it begins at, counted from 1.
    pub line: usize,
}

/// Why a text does not hold acceptable certificates, or is no PEM at all.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PemError {
    /// More than [`MAX_OCTETS`].
    #[error("text has {0} octets; {MAX_OCTETS} are accepted")]
    TooLarge(usize),
    /// More blocks than anybody needs.
    #[error("text holds more than {MAX_BLOCKS} blocks")]
    TooManyBlocks,
    /// More than [`MAX_CERTIFICATES`].
    #[error("text holds more than {MAX_CERTIFICATES} certificates")]
    TooManyCertificates,
    /// No line begins a certificate.
    #[error("text has no line -----BEGIN CERTIFICATE-----")]
    NoCertificate,
    /// One certificate is wanted.
    #[error("text holds {0} certificates; one is wanted")]
    SeveralCertificates(usize),
    /// Text in UTF-16, as PowerShell's `>` and some editors of Windows write it.
    #[error("text is in UTF-16; save it as UTF-8 or ASCII")]
    Utf16,
    /// The boundary lines have other dashes than five hyphens, which word processors and web pages put there.
    #[error("line {line}: a boundary has five hyphens (-----) before and after its words")]
    Dashes {
        /// The line of the boundary, counted from 1.
        line: usize,
    },
    /// A block begins and does not end.
    #[error("line {line}: the block {label:?} has no line -----END {label}-----")]
    Unterminated {
        /// The label of the block.
        label: String,
        /// The line it begins at, counted from 1.
        line: usize,
    },
    /// A block ends that did not begin.
    #[error("line {line}: a block ends here that does not begin")]
    NotBegun {
        /// The line of the boundary, counted from 1.
        line: usize,
    },
    /// A character that Base64 does not have.
    #[error("line {line}: {} is no character of Base64", named(*.character))]
    Character {
        /// The line it stands at, counted from 1.
        line: usize,
        /// The character.
        character: char,
    },
    /// The line ends are written as a backslash and a letter, as in JSON and in environment files.
    #[error("line {line}: `\\n` stands there as two characters; write a line end in its place")]
    EscapedLineEnd {
        /// The line it stands at, counted from 1.
        line: usize,
    },
    /// The characters are those of Base64, but too few of them, or with wrong padding.
    #[error(
        "line {line}: what is between the boundaries of {label:?} is not Base64; a part is missing"
    )]
    NotBase64 {
        /// The label of the block.
        label: String,
        /// The line it begins at, counted from 1.
        line: usize,
    },
    /// The octets are not an acceptable certificate.
    #[error("certificate {number}: {error}")]
    Certificate {
        /// Which certificate, counted from 1.
        number: usize,
        /// The reason.
        error: CertificateError,
    },
}

/// All blocks of a text, in their order. Text around them is passed over; there may be no block at all.
pub fn blocks(text: &[u8]) -> Result<Vec<Block>, PemError> {
    if text.len() > MAX_OCTETS {
        return Err(PemError::TooLarge(text.len()));
    }
    if is_utf16(text) {
        return Err(PemError::Utf16);
    }
    // Comments in another encoding are passed over too; within a block the replacement is no Base64.
    let text = String::from_utf8_lossy(text);
    let mut blocks = Vec::new();
    let mut rest = Text {
        rest: &text,
        line: 1,
    };
    while let Some(before) = rest.skip_past(BEGIN) {
        refuse_stray_boundary(&before)?;
        if blocks.len() == MAX_BLOCKS {
            return Err(PemError::TooManyBlocks);
        }
        blocks.push(rest.block()?);
    }
    refuse_stray_boundary(&rest)?;
    Ok(blocks)
}

/// Whether these octets are text in UTF-16: a byte-order mark of it, or ASCII with a zero beside each character.
fn is_utf16(text: &[u8]) -> bool {
    let zero_beside = |place: usize| {
        let mut pairs = text.chunks_exact(2).take(8).peekable();
        pairs.peek().is_some()
            && pairs.all(|pair| pair[place] == 0 && pair[1 - place].is_ascii_graphic())
    };
    text.starts_with(&[0xff, 0xfe])
        || text.starts_with(&[0xfe, 0xff])
        || zero_beside(0)
        || zero_beside(1)
}

/// A boundary outside of a block: one that ends nothing, or whose dashes are others.
fn refuse_stray_boundary(text: &Text<'_>) -> Result<(), PemError> {
    for (number, line) in text.rest.lines().enumerate() {
        let line_number = text.line + number;
        if line.contains(END) {
            return Err(PemError::NotBegun { line: line_number });
        }
        let words = line.trim_matches(|c: char| !c.is_ascii_alphabetic());
        let is_boundary = words.starts_with("BEGIN ") || words.starts_with("END ");
        let is_dashed = line
            .trim_start()
            .starts_with(|c: char| c == '-' || !c.is_ascii());
        if is_boundary && is_dashed {
            return Err(PemError::Dashes { line: line_number });
        }
    }
    Ok(())
}

/// The rest of a text, and the number of its first line.
struct Text<'t> {
    rest: &'t str,
    line: usize,
}

impl<'t> Text<'t> {
    /// Moves behind the next `mark`, and returns the text before it.
    fn skip_past(&mut self, mark: &str) -> Option<Self> {
        let (before, after) = self.rest.split_once(mark)?;
        let passed = Self {
            rest: before,
            line: self.line,
        };
        self.line += before.matches('\n').count();
        self.rest = after;
        Some(passed)
    }

    /// The block whose `BEGIN` was passed.
    fn block(&mut self) -> Result<Block, PemError> {
        let line = self.line;
        let label = match self.rest.split_once(DASHES) {
            Some((label, _)) if !label.contains('\n') => without_invisible(label),
            _ => return Err(PemError::Dashes { line }),
        };
        let label = label.trim().to_owned();
        self.skip_past(DASHES);
        let body_line = self.line;
        let unterminated = || PemError::Unterminated {
            label: label.clone(),
            line,
        };
        let body = self.skip_past(END).ok_or_else(unterminated)?.rest;
        let end = self.skip_past(DASHES).ok_or_else(unterminated)?.rest;
        if without_invisible(end).trim() != label || body.contains(BEGIN) {
            return Err(unterminated());
        }
        let (body, is_encrypted_by_header) = without_headers(body);
        let octets = decoded(&body, body_line)?.ok_or_else(|| PemError::NotBase64 {
            label: label.clone(),
            line,
        })?;
        Ok(Block {
            label,
            octets,
            is_encrypted_by_header,
            line,
        })
    }
}

/// Removes the headers of RFC 1421, and returns whether they announce encryption. Line numbers stay.
fn without_headers(body: &str) -> (Cow<'_, str>, bool) {
    if !body.contains(':') {
        return (Cow::Borrowed(body), false);
    }
    let (mut in_headers, mut encrypted) = (true, false);
    let lines = body.lines().map(|line| {
        in_headers &= line.trim().is_empty() || line.contains(':');
        if !in_headers {
            return line;
        }
        encrypted |= line.trim().starts_with("Proc-Type:") && line.contains("ENCRYPTED");
        ""
    });
    let body = lines.collect::<Vec<_>>().join("\n");
    (Cow::Owned(body), encrypted)
}

/// The octets that Base64 encodes; `None` if a part of it is missing.
fn decoded(body: &str, first_line: usize) -> Result<Option<SecretBytes>, PemError> {
    let mut compact = Vec::with_capacity(body.len());
    for (number, line) in body.lines().enumerate() {
        for character in line.chars().filter(|c| !is_invisible(*c)) {
            match u8::try_from(character) {
                Ok(octet) if octet.is_ascii_alphanumeric() || b"+/=".contains(&octet) => {
                    compact.push(octet);
                }
                _ => {
                    drop(SecretBytes::new(compact));
                    let line = first_line + number;
                    return Err(
                        match character == '\\' && (body.contains("\\n") || body.contains("\\r")) {
                            true => PemError::EscapedLineEnd { line },
                            false => PemError::Character { line, character },
                        },
                    );
                }
            }
        }
    }
    let compact = SecretBytes::new(compact);
    let text = std::str::from_utf8(compact.expose()).unwrap_or_default();
    Ok(base64::decode(text).ok().map(SecretBytes::new))
}

/// White space, and characters without width: they say nothing, and people don't see them.
fn is_invisible(character: char) -> bool {
    character.is_whitespace() || text::is_invisible(character)
}

/// A label with each run of invisible characters as one space, and none at its ends.
fn without_invisible(label: &str) -> String {
    let words = label.split(is_invisible).filter(|word| !word.is_empty());
    words.collect::<Vec<_>>().join(" ")
}

/// Octets in the textual encoding, with lines of 64 characters and a final line feed.
#[must_use]
pub fn encode(label: &str, octets: &[u8]) -> String {
    let base64 = base64::encode(octets);
    let mut text = String::with_capacity(base64.len() * 65 / 64 + 2 * label.len() + 40);
    // A string takes what is written to it.
    let _ = writeln!(text, "{BEGIN}{label}{DASHES}");
    let mut rest = base64.as_str();
    while !rest.is_empty() {
        // Base64 is ASCII, so every place is a boundary between characters.
        let (line, after) = rest.split_at_checked(64).unwrap_or((rest, ""));
        text.push_str(line);
        text.push('\n');
        rest = after;
    }
    let _ = writeln!(text, "{END}{label}{DASHES}");
    text
}

/// Whether a block of this label holds a certificate: the label of RFC 7468, or one of those before it.
#[must_use]
pub fn is_certificate(label: &str) -> bool {
    matches!(label, "CERTIFICATE" | "X509 CERTIFICATE")
}

impl Certificate {
    /// Reads the one `CERTIFICATE` block of `text`; other text and blocks may surround it.
    pub fn from_pem(text: &str) -> Result<Self, PemError> {
        let mut certificates = Self::list_from_pem(text)?;
        match (certificates.pop(), certificates.len()) {
            (Some(certificate), 0) => Ok(certificate),
            (_, others) => Err(PemError::SeveralCertificates(others + 1)),
        }
    }

    /// Reads all `CERTIFICATE` blocks of `text` in their order, at least one; other text and
    /// blocks may stand between them.
    pub fn list_from_pem(text: &str) -> Result<Vec<Self>, PemError> {
        let blocks = blocks(text.as_bytes())?;
        let found = blocks.iter().filter(|block| is_certificate(&block.label));
        let mut certificates = Vec::new();
        for (number, block) in (1..).zip(found) {
            if number > MAX_CERTIFICATES {
                return Err(PemError::TooManyCertificates);
            }
            let certificate = Self::from_der(block.octets.expose());
            certificates
                .push(certificate.map_err(|error| PemError::Certificate { number, error })?);
        }
        match certificates.is_empty() {
            true => Err(PemError::NoCertificate),
            false => Ok(certificates),
        }
    }

    /// The textual encoding of RFC 7468, with a final line feed.
    #[must_use]
    pub fn to_pem(&self) -> String {
        encode("CERTIFICATE", self.der())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn one(text: &str) -> Block {
        let mut blocks = blocks(text.as_bytes()).unwrap();
        assert_eq!(blocks.len(), 1, "{text}");
        blocks.remove(0)
    }

    #[test]
    fn what_people_have_is_read() {
        let plain = encode("X", b"seven");
        for text in [
            plain.clone(),
            format!("\u{feff}{plain}"),
            plain.replace('\n', "\r\n"),
            plain.replace('\n', "\n    "),
            plain.trim_end().to_owned(),
            plain.replace("c2V2", "c2\u{200b}V\u{a0}2\u{feff}"),
            plain.replace("BEGIN X", "BEGIN X\u{a0}"),
            format!("Bag Attributes\n    friendlyName: x\n{plain}after\n"),
        ] {
            let block = one(&text);
            assert_eq!(
                (block.label.as_str(), block.octets.expose()),
                ("X", &b"seven"[..]),
                "{text}"
            );
        }
    }

    #[test]
    fn glued_blocks_are_two() {
        let glued = format!("{}{}", encode("A", b"1").trim_end(), encode("B", b"2"));
        let labels: Vec<_> = blocks(glued.as_bytes())
            .unwrap()
            .into_iter()
            .map(|b| (b.label, b.line))
            .collect();
        assert_eq!(labels, [("A".to_owned(), 1), ("B".to_owned(), 3)]);
    }

    #[test]
    fn what_is_no_pem_is_named_with_its_line() {
        use PemError::*;
        let plain = encode("X", b"seven");
        let refused = |text: String| blocks(text.as_bytes()).unwrap_err();
        assert_eq!(
            refused(plain.replace("c2V2", "c2_2")),
            Character {
                line: 2,
                character: '_'
            }
        );
        assert_eq!(
            refused(plain.replace("c2V2", "c2V")),
            NotBase64 {
                label: "X".into(),
                line: 1
            }
        );
        assert_eq!(
            refused(format!("\n{}", plain.replace("-----END X-----", ""))),
            Unterminated {
                label: "X".into(),
                line: 2
            }
        );
        assert_eq!(
            refused(plain.replace("END X", "END Y")),
            Unterminated {
                label: "X".into(),
                line: 1
            }
        );
        assert_eq!(
            refused(plain.replace("-----BEGIN X-----", "")),
            NotBegun { line: 3 }
        );
        assert_eq!(
            refused(plain.replace("-----", "\u{2013}\u{2013}")),
            Dashes { line: 1 }
        );
        assert_eq!(
            refused(plain.replace("-----BEGIN", "----BEGIN")),
            Dashes { line: 1 }
        );
        assert_eq!(
            refused(plain.replace(" X-----", " X\nY-----")),
            Dashes { line: 1 }
        );
        assert_eq!(
            refused("x".repeat(MAX_OCTETS + 1)),
            TooLarge(MAX_OCTETS + 1)
        );
        assert_eq!(
            refused(encode("X", b"1").repeat(MAX_BLOCKS + 1)),
            TooManyBlocks
        );
        assert_eq!(
            refused(plain.replace('\n', "\\n")),
            EscapedLineEnd { line: 1 }
        );
        let character = refused(plain.replace("c2V2", "c2\u{fffd}2"));
        assert!(character.to_string().contains("U+FFFD"), "{character}");
    }

    #[test]
    fn utf_16_is_named() {
        let text = encode("X", b"seven");
        for order in [u16::to_le_bytes, u16::to_be_bytes] {
            let octets: Vec<u8> = text.encode_utf16().flat_map(order).collect();
            assert_eq!(blocks(&octets), Err(PemError::Utf16));
            let marked: Vec<u8> = order(0xfeff).into_iter().chain(octets).collect();
            assert_eq!(blocks(&marked), Err(PemError::Utf16));
        }
    }

    #[test]
    fn headers_are_seen() {
        let text =
            encode("X", b"seven").replacen('\n', "\nProc-Type: 4,ENCRYPTED\nDEK-Info: A,B\n\n", 1);
        let block = one(&text);
        assert!(block.is_encrypted_by_header);
        assert_eq!(block.octets.expose(), b"seven");
        let block = one(&text.replace("ENCRYPTED", "MIC-CLEAR"));
        assert!(!block.is_encrypted_by_header);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(octets in prop::collection::vec(any::<u8>(), 0..200), label in "[A-Z]{1,9}( [A-Z0-9]{1,9})?") {
            let block = one(&encode(&label, &octets));
            prop_assert_eq!(block.octets.expose(), &octets[..]);
            prop_assert_eq!(block.label, label);
        }

        #[test]
        fn any_text_is_read_or_refused(text in "(-----BEGIN |-----END |-----|X|\n|[A-Za-z0-9+/=]{4}|.){0,40}") {
            let _ = blocks(text.as_bytes());
        }
    }
}
