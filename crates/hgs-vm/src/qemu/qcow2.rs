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

/// Octets of a cluster of the disks that are made here.
const CLUSTER: u64 = 1 << 16;

/// The beginning of an empty disk of so many octets. Behind it there is nothing.
pub(super) fn empty(octets: u64) -> Vec<u8> {
    // A cluster of the second table has 8192 places of one cluster each.
    let places = octets.div_ceil(CLUSTER * CLUSTER / 8);
    let table = (places * 8).div_ceil(CLUSTER).max(1);
    let [counts, first_counts, first_table] = [1, 2, 3].map(|cluster| cluster * CLUSTER);
    let mut disk = Vec::new();
    disk.extend(b"QFI\xFB");
    disk.extend(3_u32.to_be_bytes());
    // No other file: its name's place and length.
    disk.extend([0; 12]);
    disk.extend(16_u32.to_be_bytes());
    disk.extend(octets.to_be_bytes());
    disk.extend([0; 4]);
    disk.extend(u32::try_from(places).unwrap_or(u32::MAX).to_be_bytes());
    disk.extend(first_table.to_be_bytes());
    disk.extend(counts.to_be_bytes());
    disk.extend(1_u32.to_be_bytes());
    // No snapshots, no features.
    disk.extend([0; 12 + 24]);
    // Counts of references have 16 bits, and the header 104 octets.
    disk.extend(4_u32.to_be_bytes());
    disk.extend(104_u32.to_be_bytes());
    let mut place = |at: u64, field: &[u8]| {
        let at = usize::try_from(at).unwrap_or(usize::MAX);
        disk.resize(disk.len().max(at + field.len()), 0);
        disk[at..at + field.len()].copy_from_slice(field);
    };
    place(counts, &first_counts.to_be_bytes());
    for cluster in 0..3 + table {
        place(first_counts + 2 * cluster, &1_u16.to_be_bytes());
    }
    place(first_table + table * CLUSTER - 1, &[0]);
    disk
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::iter;
    use std::process::Output;

    use super::*;
    use crate::parts::Parts;

    #[test]
    fn an_empty_disk_is_as_qemu_img_expects_it() {
        let cache = Parts::cache_folder(|name| std::env::var_os(name)).unwrap();
        let parts = Parts::fetch(&cache, &mut |_| {}).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let run = |arguments: &str| {
            let mut command = parts.program("qemu-img").unwrap().command();
            let command = command.args(arguments.split_whitespace());
            let output = command.current_dir(folder.path()).output().unwrap();
            assert!(output.status.success(), "{arguments}: {output:?}");
            String::from_utf8(output.stdout).unwrap()
        };
        for octets in [1 << 20, 5 << 30, 40 << 40] {
            let disk = empty(octets);
            check(&disk).unwrap();
            fs::write(folder.path().join("disk"), disk).unwrap();
            let checked = run("check -f qcow2 --output=json disk");
            assert!(
                !checked.contains("leaks") && !checked.contains("corruptions"),
                "{checked}"
            );
            let told = run("info -f qcow2 --output=json disk");
            assert!(
                told.contains(&format!("\"virtual-size\": {octets},")),
                "{told}"
            );
        }
        // It takes what is written to it.
        fs::write(folder.path().join("disk"), empty(1 << 20)).unwrap();
        fs::write(folder.path().join("raw"), vec![7; 1 << 20]).unwrap();
        run("convert -n -f raw -O qcow2 raw disk");
        run("check -f qcow2 disk");
        run("compare -f raw -F qcow2 raw disk");
    }

    /// Disks as qemu-img makes them; each line is its arguments, and what is found.
    #[test]
    fn a_disk_that_leads_to_another_file_is_refused() {
        let cache = Parts::cache_folder(|name| std::env::var_os(name)).unwrap();
        let parts = Parts::fetch(&cache, &mut |_| {}).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let make = |arguments: &str| {
            let run = || {
                let mut command = parts.program("qemu-img").unwrap().command();
                command.args(arguments.split_whitespace());
                command.current_dir(folder.path()).output().unwrap()
            };
            // For a key of LUKS it measures its own processor time, and sometimes finds that it can't.
            let is_measured = |output: &Output| {
                let said = String::from_utf8_lossy(&output.stderr);
                !said.contains("Unable to get accurate CPU usage")
            };
            let measured = iter::repeat_with(run).take(5).find(is_measured);
            let output = measured.expect("it measures its time at one of five tries");
            assert!(output.status.success(), "{output:?}");
        };
        make("create -q -f raw other 1M");
        let secret = "--object secret,id=k,data=passphrase";
        for (arguments, found) in [
            ("create -q -f qcow2 disk 1M", Ok(())),
            ("create -q -f qcow2 -o compat=0.10 disk 1M", Ok(())),
            (
                "create -q -f qcow2 -F raw -b other disk",
                Err(Qcow2Error::BackingFile),
            ),
            (
                "create -q -f qcow2 -o data_file=data disk 1M",
                Err(Qcow2Error::DataFile),
            ),
            ("create -q -f raw disk 1M", Err(Qcow2Error::OtherFormat)),
            ("create -q -f qed disk 1M", Err(Qcow2Error::OtherFormat)),
            (
                &format!(
                    "create -q {secret} -f qcow2 -o encrypt.format=luks,encrypt.key-secret=k disk 1M"
                ),
                Err(Qcow2Error::Encrypted),
            ),
        ] {
            make(arguments);
            let disk = folder.path().join("disk");
            let octets = fs::read(&disk).unwrap();
            assert_eq!(check(&octets), found, "{arguments}");
            fs::remove_file(disk).unwrap();
            for length in 0..HEADER.min(octets.len()) {
                let _ = check(&octets[..length]);
            }
        }
    }
}
