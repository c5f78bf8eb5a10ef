//! The armour of age: the file in Base64 between two boundary lines (a strict form of RFC 7468), as it comes through mail
//! and forms. It is taken off piece by piece; white space and a byte-order mark may stand before it, white space after it.

use std::io::{self, BufRead, Read};

use hgs_crypto::base64;

const BEGIN: &[u8] = b"-----BEGIN AGE ENCRYPTED FILE-----";
const END: &[u8] = b"-----END AGE ENCRYPTED FILE-----";
const COLUMNS: usize = 64;
/// Octets of white space that may stand before and after the armour.
const MAX_SPACE: usize = 1024;
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// The octets of a file of this format, whether it is armoured or not.
#[derive(Debug)]
pub struct Content<R> {
    file: R,
    armour: Option<Armour>,
}

/// How far the armour was taken off.
#[derive(Debug, Default)]
struct Armour {
    /// What one line encodes.
    octets: Vec<u8>,
    taken: usize,
    /// A line that is shorter than others is the last.
    is_last: bool,
    ended: bool,
}

impl<R: BufRead> Content<R> {
    /// Looks at the beginning of `file`, and takes the first line of an armour off.
    pub(super) fn of(mut file: R) -> io::Result<Self> {
        let begin = file.fill_buf()?;
        let text = begin
            .strip_prefix(BYTE_ORDER_MARK)
            .unwrap_or(begin)
            .trim_ascii_start();
        if !text.starts_with(b"-----BEGIN") {
            let armour = None;
            return Ok(Self { file, armour });
        }
        let space = begin.len() - text.len();
        if space > MAX_SPACE {
            return Err(malformed("too much white space before it"));
        }
        file.consume(space);
        match next_line(&mut file)?.as_slice() {
            BEGIN => Ok(Self {
                file,
                armour: Some(Armour::default()),
            }),
            _ => Err(malformed("its first line")),
        }
    }
}

impl Armour {
    fn next(&mut self, file: &mut impl BufRead) -> io::Result<()> {
        self.octets.clear();
        self.taken = 0;
        let line = next_line(file)?;
        if line == END {
            self.ended = true;
            return nothing_follows(file);
        }
        if self.is_last || line.is_empty() || line.len() > COLUMNS {
            return Err(malformed("the length of a line"));
        }
        self.is_last = line.len() < COLUMNS || line.ends_with(b"=");
        let text = str::from_utf8(&line).map_err(|_| malformed("not Base64"))?;
        self.octets = base64::decode(text).map_err(|_| malformed("not Base64"))?;
        Ok(())
    }
}

impl<R: BufRead> BufRead for Content<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        let Some(armour) = &mut self.armour else {
            return self.file.fill_buf();
        };
        while armour.taken == armour.octets.len() && !armour.ended {
            armour.next(&mut self.file)?;
        }
        Ok(armour.octets.get(armour.taken..).unwrap_or_default())
    }

    fn consume(&mut self, count: usize) {
        match &mut self.armour {
            None => self.file.consume(count),
            Some(armour) => armour.taken = (armour.taken + count).min(armour.octets.len()),
        }
    }
}

impl<R: BufRead> Read for Content<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.armour.is_none() {
            return self.file.read(out);
        }
        let count = self.fill_buf()?.read(out)?;
        self.consume(count);
        Ok(count)
    }
}

/// One line without its end, LF or CRLF.
fn next_line(file: &mut impl BufRead) -> io::Result<Vec<u8>> {
    let mut line = Vec::new();
    let limit = COLUMNS + 2;
    file.by_ref()
        .take(limit as u64)
        .read_until(b'\n', &mut line)?;
    if line.last() == Some(&b'\n') {
        line.pop();
        if line.last() == Some(&b'\r') {
            line.pop();
        }
    } else if line.len() == limit || line.is_empty() {
        return Err(malformed(match line.is_empty() {
            true => "its end is missing",
            false => "the length of a line",
        }));
    }
    Ok(line)
}

fn nothing_follows(file: &mut impl BufRead) -> io::Result<()> {
    let mut rest = Vec::new();
    file.by_ref()
        .take(MAX_SPACE as u64 + 1)
        .read_to_end(&mut rest)?;
    match rest.trim_ascii().is_empty() && rest.len() <= MAX_SPACE {
        true => Ok(()),
        false => Err(malformed("something follows it")),
    }
}

fn malformed(what: &str) -> io::Error {
    let message = format!("the armour of the encrypted file is malformed: {what}");
    io::Error::new(io::ErrorKind::InvalidData, message)
}
