//! Measured boots: the events of a real log, to be changed, written as a log again, and replayed into a TPM.

use hgs_crypto::hash::{sha256, sha256_of};

use crate::swtpm::SoftwareTpm;

const SHA256: u16 = 0x000b;
const NO_ACTION: u32 = 3;

/// The events of one boot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MeasuredBoot {
    /// The event with the algorithms, which extends nothing.
    header: Vec<u8>,
    /// The others, in order: number 1 of the log is the first.
    pub events: Vec<BootEvent>,
}

/// One event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BootEvent {
    /// The PCR.
    pub pcr: u32,
    /// Its type.
    pub event_type: u32,
    /// What the bank of SHA-256 is extended with.
    pub digest: [u8; 32],
    /// Its data.
    pub data: Vec<u8>,
}

impl BootEvent {
    /// An event whose digest is over its data.
    #[must_use]
    pub fn new(pcr: u32, event_type: u32, data: &[u8]) -> Self {
        Self {
            pcr,
            event_type,
            digest: sha256(data),
            data: data.to_vec(),
        }
    }
}

/// The header of a log with the bank of SHA-256 alone (TCG PC Client Platform Firmware Profile 10.4.5.1).
fn header() -> Vec<u8> {
    let mut data = b"Spec ID Event03\0\0\0\0\0\0\x02\0\x02\x01\0\0\0".to_vec();
    data.extend(SHA256.to_le_bytes());
    data.extend(32_u16.to_le_bytes());
    data.push(0);
    let mut octets = 0_u32.to_le_bytes().to_vec();
    octets.extend(NO_ACTION.to_le_bytes());
    octets.extend([0; 20]);
    octets.extend(u32::try_from(data.len()).unwrap().to_le_bytes());
    octets.extend(data);
    octets
}

impl MeasuredBoot {
    /// A boot with these events.
    #[must_use]
    pub fn new(events: Vec<BootEvent>) -> Self {
        Self {
            header: header(),
            events,
        }
    }

    /// The events of a log of the crypto-agile form with a bank of SHA-256, of which this program knows that it is sound.
    ///
    /// # Panics
    ///
    /// If it is not.
    #[must_use]
    pub fn of_log(log: &[u8]) -> Self {
        let mut reader = Reader(log);
        let _pcr_type_and_digest = reader.take(28);
        let length = reader.u32();
        let header_data = reader.take(length as usize).to_vec();
        let algorithms = algorithms(&header_data);
        let mut events = Vec::new();
        while !reader.0.is_empty() {
            let (pcr, event_type, count) = (reader.u32(), reader.u32(), reader.u32());
            let mut digest = None;
            for _ in 0..count {
                let algorithm = reader.u16();
                let size = algorithms.iter().find(|(known, _)| *known == algorithm);
                let octets = reader.take(size.unwrap().1.into());
                if algorithm == SHA256 {
                    digest = Some(octets.try_into().unwrap());
                }
            }
            let length = reader.u32();
            events.push(BootEvent {
                pcr,
                event_type,
                digest: digest.expect("a bank of SHA-256"),
                data: reader.take(length as usize).to_vec(),
            });
        }
        Self::new(events)
    }

    /// The log, in the crypto-agile form with the bank of SHA-256 alone.
    ///
    /// # Panics
    ///
    /// If an event has more than 4 GiB.
    #[must_use]
    pub fn log(&self) -> Vec<u8> {
        let mut octets = self.header.clone();
        for event in &self.events {
            octets.extend(event.pcr.to_le_bytes());
            octets.extend(event.event_type.to_le_bytes());
            octets.extend(1_u32.to_le_bytes());
            octets.extend(SHA256.to_le_bytes());
            octets.extend(event.digest);
            octets.extend(u32::try_from(event.data.len()).unwrap().to_le_bytes());
            octets.extend(&event.data);
        }
        octets
    }

    /// The values that the PCRs 0 to 16 and 23 have after this boot; zeros for the others. TPM2_Startup comes from locality 0.
    #[must_use]
    pub fn pcrs(&self) -> [[u8; 32]; 24] {
        let mut values = [[0; 32]; 24];
        for event in self.measured() {
            let value = &mut values[event.pcr as usize];
            *value = sha256_of(&[&value[..], &event.digest]);
        }
        values
    }

    /// Starts the TPM anew and extends its PCRs, event by event, as firmware and boot loaders do.
    ///
    /// # Panics
    ///
    /// If the TPM refuses.
    pub fn replay(&self, tpm: &mut SoftwareTpm) {
        tpm.boot(&self.log());
    }

    fn measured(&self) -> impl Iterator<Item = &BootEvent> {
        self.events
            .iter()
            .filter(|event| event.event_type != NO_ACTION)
    }
}

/// TPM2_PCR_Extend of the bank of SHA-256.
///
/// # Panics
///
/// If the TPM refuses.
pub fn extend(tpm: &mut SoftwareTpm, pcr: u32, digest: &[u8; 32]) {
    let mut command = vec![0x80, 0x02, 0, 0, 0, 65, 0, 0, 0x01, 0x82];
    command.extend(pcr.to_be_bytes());
    // An authorization area of nine octets: the empty password.
    command.extend([0, 0, 0, 9, 0x40, 0, 0, 9, 0, 0, 0, 0, 0]);
    command.extend(1_u32.to_be_bytes());
    command.extend(SHA256.to_be_bytes());
    command.extend(digest);
    let response = tpm.send(&command);
    assert_eq!(response[6..10], [0; 4], "TPM2_PCR_Extend: {response:02x?}");
}

/// The identifiers and sizes of the algorithms in the data of a header.
fn algorithms(header: &[u8]) -> Vec<(u16, u16)> {
    let mut reader = Reader(header);
    assert_eq!(reader.take(16), b"Spec ID Event03\0");
    let _class_version_and_size = reader.take(8);
    let count = reader.u32();
    (0..count).map(|_| (reader.u16(), reader.u16())).collect()
}

struct Reader<'o>(&'o [u8]);

impl<'o> Reader<'o> {
    fn take(&mut self, length: usize) -> &'o [u8] {
        let (taken, rest) = self.0.split_at(length);
        self.0 = rest;
        taken
    }

    fn u16(&mut self) -> u16 {
        u16::from_le_bytes(self.take(2).try_into().unwrap())
    }

    fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.take(4).try_into().unwrap())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_real_boot_gives_the_pcrs_that_were_read_after_it_and_a_tpm_agrees() {
        let Some(shared) = crate::shared() else {
            return;
        };
        for name in [
            "uefi-shim-grub-secureboot-on",
            "uefi-shim-grub-secureboot-off",
        ] {
            let file = |file: &str| {
                let path = shared.join("vectors/boots").join(name).join(file);
                std::fs::read(path).unwrap()
            };
            let boot = MeasuredBoot::of_log(&file("eventlog.bin"));
            assert_eq!(MeasuredBoot::of_log(&boot.log()), boot);
            let read = file("pcrs-sha256.bin");
            for (pcr, value) in boot.pcrs().iter().enumerate() {
                // IMA extends PCR 10 after the log has ended.
                if pcr != 10 && !(17..=22).contains(&pcr) {
                    assert_eq!(value[..], read[pcr * 32..][..32], "{name}: PCR {pcr}");
                }
            }
            let mut tpm = SoftwareTpm::new();
            boot.replay(&mut tpm);
            let output = tpm.tool("tpm2_pcrread", &["sha256:4", "-o", "pcr4"]);
            assert!(output.status.success());
            let value = std::fs::read(tpm.folder().join("pcr4")).unwrap();
            assert_eq!(value, read[4 * 32..][..32]);
        }
    }
}
