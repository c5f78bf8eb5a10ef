//! What a host measured, in files: as its kernel and tpm2-tools write it.

use std::path::{Path, PathBuf};

use hgs_attest::policy::{Evidence, RecordedEvidence};
use hgs_crypto::hex;
use hgs_tcg::event_log::{self, Bank, PcrValues};
use hgs_tcg::ima;
use hgs_terminal::{Failure, read_input};

/// Octets of the longest file with PCR values.
const LONGEST_PCRS: usize = 64 * 1024;

/// Files about one boot.
#[derive(Debug, clap::Args)]
pub(crate) struct EvidenceFiles {
    /// The event log: on the host, /sys/kernel/security/tpm0/binary_bios_measurements
    #[arg(long, value_name = "FILE")]
    pub(crate) log: PathBuf,
    /// Values of PCRs: what `tpm2_pcrread sha256` prints, or the octets of PCR 0 and those after it
    #[arg(long, value_name = "FILE")]
    pub(crate) pcrs: PathBuf,
    /// The IMA log: on the host, /sys/kernel/security/ima/binary_runtime_measurements
    #[arg(long, value_name = "FILE")]
    pub(crate) ima: Option<PathBuf>,
}

impl EvidenceFiles {
    /// Reads the files. Whether they belong together is not looked at.
    pub(crate) fn read(&self) -> Result<RecordedEvidence, Failure> {
        let log = contents(&self.log, event_log::Limits::LOG.octets, "an event log")?;
        let ima = self.ima.as_deref().map(|file| {
            let limit = ima::Limits::LOG.octets;
            contents(file, limit, "an IMA log")
        });
        Ok(RecordedEvidence {
            values: pcr_values(&self.pcrs)?,
            log,
            ima: ima.transpose()?.unwrap_or_default(),
            preimages: Vec::new(),
            unexplained: Vec::new(),
        })
    }

    /// Reads the files and replays the logs against the PCR values.
    pub(crate) fn prove(&self) -> Result<Evidence, Failure> {
        let proved = self.read()?.prove();
        proved.map_err(|error| {
            Failure::refused(error).remedy(
                "take log and PCR values from the same boot, the IMA log after the PCR values",
            )
        })
    }
}

fn contents(file: &Path, limit: usize, what: &str) -> Result<Vec<u8>, Failure> {
    read_input(file, limit)?.complete(file, what)
}

fn pcr_values(file: &Path) -> Result<PcrValues, Failure> {
    let octets = contents(file, LONGEST_PCRS, "a file with PCR values")?;
    let text = std::str::from_utf8(&octets).ok();
    let values = match text.filter(|text| text.contains("sha256:")) {
        Some(text) => printed(text),
        None => PcrValues::concatenated(Bank::Sha256, &octets).ok(),
    };
    values
        .filter(|values| values.iter().next().is_some())
        .ok_or_else(|| {
            Failure::refused(format!(
                "{} has no PCR values of the SHA-256 bank",
                file.display()
            ))
            .remedy("write them on the host with `tpm2_pcrread sha256 > FILE`")
        })
}

/// The values in the block `sha256:` of what tpm2_pcrread prints: lines with a number, a colon, and `0x` with digits.
fn printed(text: &str) -> Option<PcrValues> {
    let mut values = PcrValues::new(Bank::Sha256);
    let of_bank = text
        .lines()
        .map(str::trim)
        .skip_while(|line| *line != "sha256:")
        .skip(1)
        .take_while(|line| !line.ends_with(':'));
    for line in of_bank.filter(|line| !line.is_empty()) {
        let (pcr, value) = line.split_once(':')?;
        let value = hex::decode(value.trim().strip_prefix("0x")?)?;
        values.insert(pcr.trim().parse().ok()?, &value).ok()?;
    }
    Some(values)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_read_as_octets_and_as_tpm2_pcrread_prints_them() {
        let folder = tempfile::tempdir().unwrap();
        let read = |contents: &[u8]| {
            let file = folder.path().join("pcrs");
            std::fs::write(&file, contents).unwrap();
            pcr_values(&file)
        };
        let digits = "90040FDEBCAEF6FED8BEEC816D2A56FF8D77F91516BD053E493374C25562F11C";
        let octets = hex::decode(digits).unwrap();
        let both = [&octets[..], &[0xff; 32]].concat();
        let expected = PcrValues::concatenated(Bank::Sha256, &both).unwrap();
        assert_eq!(read(&both).unwrap(), expected);
        let ones = "f".repeat(64);
        let text = format!(
            "  sha1:\n    0 : 0x00\n  sha256:\n    0 : 0x{digits}\n    1 : 0x{ones}\n  sha384:\n"
        );
        assert_eq!(read(text.as_bytes()).unwrap(), expected);
        let long = vec![0; 25 * 32];
        let cases: [&[u8]; 6] = [
            b"",
            b"text",
            b"  sha256:\n",
            b"  sha256:\n    0 : 0x00\n",
            b"  sha1:\n    0 : 0x00\n",
            &long,
        ];
        for wrong in cases {
            let failure = read(wrong).unwrap_err();
            assert!(
                failure.message().contains("no PCR values"),
                "{}",
                failure.message()
            );
        }
    }
}
