//! Files that are named on the command line and hold no secret.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use hgs_files::FileError;

use crate::{AtFault, Failure};

/// The beginning of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InputFile {
    /// At most as many octets as were asked for.
    pub octets: Vec<u8>,
    /// Whether the file goes on.
    pub is_longer: bool,
}

/// Reads at most `limit` octets of the file, pipe or device at `path`; `-` is standard input. Links are followed:
/// the user who names a file means what is there.
///
/// # Errors
/// When it can't be read; a longer file is no error.
pub fn read_input(path: &Path, limit: usize) -> Result<InputFile, Failure> {
    let read = if path == Path::new("-") {
        read_from(io::stdin().lock(), limit)
    } else {
        File::open(path).and_then(|file| read_from(file, limit))
    };
    Ok(read.map_err(|error| FileError::at(path, error))?)
}

impl InputFile {
    /// All octets.
    ///
    /// # Errors
    /// [`Exit::Refused`](crate::Exit::Refused) when there are more, saying `what` is so long at most.
    pub fn complete(self, path: &Path, what: &str) -> Result<Vec<u8>, Failure> {
        if self.is_longer {
            let limit = self.octets.len();
            let message = format!(
                "{}: {what} has at most {limit} octets, and this file has more",
                path.display()
            );
            return Err(Failure::refused(message).at_fault(AtFault::Peer));
        }
        Ok(self.octets)
    }
}

fn read_from(file: impl Read, limit: usize) -> io::Result<InputFile> {
    let mut octets = Vec::new();
    file.take(limit as u64 + 1).read_to_end(&mut octets)?;
    let is_longer = octets.len() > limit;
    octets.truncate(limit);
    Ok(InputFile { octets, is_longer })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Exit;

    #[test]
    fn no_more_is_read_than_was_asked_for() {
        let endless = Path::new("/dev/zero");
        let input = read_input(endless, 10).unwrap();
        assert_eq!((input.octets.len(), input.is_longer), (10, true));
        let failure = input.complete(endless, "a file").unwrap_err();
        assert_eq!(failure.exit(), Exit::Refused);
        let input = read_input(Path::new("/dev/null"), 0).unwrap();
        assert_eq!(input.complete(endless, "a file").unwrap(), b"");
    }

    #[test]
    fn folders_and_missing_files_can_not_be_read() {
        for path in ["/", "/no/such/file"] {
            let failure = read_input(Path::new(path), 10).unwrap_err();
            assert_eq!(failure.exit(), Exit::Failed);
            assert!(!failure.message().contains("os error"), "{failure:?}");
        }
    }
}
