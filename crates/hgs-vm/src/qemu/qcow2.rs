//! What a disk in QEMU's own format (qcow2) refers to. Its header can name other files of the host, which QEMU would open.

/// Octets of the header that are looked at.
pub(super) const HEADER: usize = 80;

/// Why a disk is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Qcow2Error {
    /// It is another format, or an unknown version of this one.
    #[error("the disk is not in the format qcow2, version 2 or 3")]
    OtherFormat,
    /// It says that what it does not hold is in another file.
    #[error("the disk is based on another file, which a VM's disk must not be")]
    BackingFile,
    /// It says that its data are in another file.
    #[error("the disk keeps its data in another file, which a VM's disk must not do")]
    DataFile,
    /// It is encrypted by QEMU.
    #[error("the disk is encrypted by QEMU, which would need the key")]
    Encrypted,
}

/// Checks the beginning of a disk.
pub(super) fn check(header: &[u8]) -> Result<(), Qcow2Error> {
    let number = |at: usize, octets: usize| {
        let field = header.get(at..at + octets).ok_or(Qcow2Error::OtherFormat)?;
        Ok(field
            .iter()
            .fold(0_u64, |number, octet| number << 8 | u64::from(*octet)))
    };
    let version = number(4, 4)?;
    if !header.starts_with(b"QFI\xFB") || !matches!(version, 2 | 3) {
        return Err(Qcow2Error::OtherFormat);
    }
    // Offset and length of the file's name.
    if number(8, 8)? != 0 || number(16, 4)? != 0 {
        return Err(Qcow2Error::BackingFile);
    }
    if number(32, 4)? != 0 {
        return Err(Qcow2Error::Encrypted);
    }
    const EXTERNAL_DATA: u64 = 1 << 2;
    if version == 3 && number(72, 8)? & EXTERNAL_DATA != 0 {
        return Err(Qcow2Error::DataFile);
    }
    Ok(())
}
