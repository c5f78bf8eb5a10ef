//! What the machine says beside its TPM: logs, kernel command line, SMBIOS.

use std::fs::File;
use std::io::{self, Read as _};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use hgs_attest::platform_identity::{MAX_SERIAL_CHARACTERS, SmbiosIdentifiers};
use hgs_attest::policy::{EventDigest, Preimage, UnexplainedEvent};
use hgs_crypto::hash::sha256;
use hgs_crypto::hex;
use hgs_tcg::event_log::{self, Bank, EventLog};
use hgs_tcg::ima;
use serde::Deserialize;

/// Octets of the longest event log and of the longest log of IMA that a guardian takes.
pub(super) const MAX_EVENT_LOG: usize = event_log::Limits::LOG.octets;
pub(super) const MAX_IMA_LOG: usize = ima::Limits::LOG.octets;
/// Where Linux shows what SMBIOS says.
pub(super) const DMI: &str = "/sys/class/dmi/id";

/// PCRs in which boot loaders, stubs and kernels measure a command line.
const COMMAND_LINE_PCRS: [u32; 4] = [8, 9, 11, 12];

/// Why a log can't be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MeasurementError {
    /// The system does not let it be read.
    #[error("{}: {error}", path.display())]
    Unreadable {
        /// The log.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// No guardian takes so much.
    #[error("{}: the log has more than {limit} octets", path.display())]
    TooLong {
        /// The log.
        path: PathBuf,
        /// How many a guardian takes.
        limit: usize,
    },
}

/// A log of the kernel; empty if there is none. The kernel says that its files have no octets, and some are links.
pub(super) fn read_log(path: &Path, limit: usize) -> Result<Vec<u8>, MeasurementError> {
    let mut octets = Vec::new();
    let read =
        File::open(path).and_then(|file| file.take(limit as u64 + 1).read_to_end(&mut octets));
    match read {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(MeasurementError::Unreadable {
            path: path.to_owned(),
            error,
        }),
        Ok(_) if octets.len() > limit => Err(MeasurementError::TooLong {
            path: path.to_owned(),
            limit,
        }),
        Ok(_) => Ok(octets),
    }
}

/// The command line that the kernel was started with, or nothing.
pub(super) fn command_line() -> String {
    let read = std::fs::read_to_string("/proc/cmdline");
    read.unwrap_or_default().trim_end_matches('\n').to_owned()
}

/// The events of the log that the command line is the preimage of: the log does not hold what the stubs of kernels measure.
pub(super) fn preimages(log: &[u8], command_line: &str) -> Vec<Preimage> {
    let Ok(log) = EventLog::read(log.to_vec(), &event_log::Limits::LOG) else {
        return Vec::new();
    };
    let load_options = command_line.encode_utf16().chain([0]);
    let forms: [Vec<u8>; 3] = [
        // LoadOptions of a kernel's stub and of systemd-stub, and the section .cmdline with and without its end.
        load_options.flat_map(u16::to_le_bytes).collect(),
        command_line.as_bytes().to_vec(),
        [command_line.as_bytes(), &[0]].concat(),
    ];
    let digests = forms.map(|octets| (Bank::Sha256.hash(&[&octets]), octets));
    let measured = log.unverified().events();
    let measured = measured.filter(|event| COMMAND_LINE_PCRS.contains(&event.pcr()));
    let found = measured.filter_map(|event| {
        let digest = event.digest(Bank::Sha256)?;
        let (_, octets) = digests.iter().find(|(known, _)| *known == digest)?;
        Some(Preimage {
            pcr: u8::try_from(event.pcr()).ok()?,
            event: u32::try_from(event.number()).ok()?,
            octets: octets.clone(),
        })
    });
    found.collect()
}

/// Where systemd keeps what it has measured after the kernel had closed the event log (systemd 254 and later).
const USER_SPACE_LOG: &str = "/run/log/systemd/tpm2-measure.log";
const MAX_USER_SPACE_LOG: usize = 256 * 1024;
/// Measurements of user space that are sent, at most: a context has room for 128 parts.
const MAX_USER_SPACE_EVENTS: usize = 64;
/// PCRs that systemd extends.
const USER_SPACE_PCRS: RangeInclusive<u8> = 11..=15;

/// What user space measured after the event log was closed. Such events have no place in the log: they are numbered from its end on.
#[derive(Debug, Default)]
pub(super) struct UserSpaceEvents {
    /// What the events were made from whose records say it.
    pub(super) preimages: Vec<Preimage>,
    /// The others: systemd measures the key of a volume by its HMAC, and what was extended has another digest than the text of its record.
    pub(super) unexplained: Vec<UnexplainedEvent>,
}

pub(super) fn user_space_events(log: &[u8]) -> UserSpaceEvents {
    let Ok(log) = EventLog::read(log.to_vec(), &event_log::Limits::LOG) else {
        return UserSpaceEvents::default();
    };
    let records = read_log(Path::new(USER_SPACE_LOG), MAX_USER_SPACE_LOG).unwrap_or_default();
    events_of_records(&records, log.unverified().events().len())
}

/// A record of systemd's log, which is JSON text sequences (RFC 7464), as far as it is needed.
#[derive(Deserialize)]
struct UserSpaceRecord {
    pcr: u8,
    digests: Vec<UserSpaceDigest>,
    #[serde(default)]
    content: UserSpaceContent,
}

#[derive(Deserialize)]
struct UserSpaceDigest {
    #[serde(rename = "hashAlg")]
    algorithm: String,
    digest: String,
}

#[derive(Default, Deserialize)]
struct UserSpaceContent {
    #[serde(default)]
    string: Option<String>,
}

impl UserSpaceRecord {
    /// What the PCR was extended with, if its SHA-256 bank was.
    fn digest(&self) -> Option<EventDigest> {
        let mut digests = self.digests.iter();
        let of_bank = digests.find(|one| one.algorithm == "sha256")?;
        let octets = hex::decode(&of_bank.digest)?;
        octets.try_into().ok().map(EventDigest)
    }
}

fn events_of_records(records: &[u8], first: usize) -> UserSpaceEvents {
    let records = records.split(|octet| *octet == 0x1e);
    let records = records.filter_map(|record| serde_json::from_slice(record).ok());
    let measured = records.filter_map(|record: UserSpaceRecord| {
        let digest = record.digest()?;
        USER_SPACE_PCRS
            .contains(&record.pcr)
            .then_some((record, digest))
    });
    let mut events = UserSpaceEvents::default();
    for (place, (record, digest)) in measured.take(MAX_USER_SPACE_EVENTS).enumerate() {
        let Ok(event) = u32::try_from(first + place) else {
            break;
        };
        let pcr = record.pcr;
        let octets = record.content.string.unwrap_or_default().into_bytes();
        match digest.0 == sha256(&octets) {
            true => events.preimages.push(Preimage { pcr, event, octets }),
            false => events
                .unexplained
                .push(UnexplainedEvent { pcr, event, digest }),
        }
    }
    events
}

/// What SMBIOS says about the machine. Numbers that makers leave unset are left out; so are those that this user may not read.
pub(super) fn smbios(folder: &Path) -> SmbiosIdentifiers {
    let read = |name: &str| {
        let text = std::fs::read_to_string(folder.join(name)).ok()?;
        Some(text.trim().to_owned())
    };
    let uuid = read("product_uuid").map(|uuid| uuid.to_ascii_lowercase());
    let uuid = uuid.filter(|uuid| SmbiosIdentifiers::new(Some(uuid.clone()), None).is_ok());
    let serial = read("product_serial").map(|serial| {
        let printable = serial.chars().filter(|one| matches!(one, ' '..='~'));
        let printable: String = printable.take(MAX_SERIAL_CHARACTERS).collect();
        printable.trim().to_owned()
    });
    let serial = serial.filter(|serial| !serial.is_empty());
    SmbiosIdentifiers::new(uuid, serial).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use hgs_testkit::measured_boot::{BootEvent, MeasuredBoot};

    use super::*;

    #[test]
    fn a_log_that_is_absent_is_empty_and_one_that_is_too_long_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        assert!(read_log(&path, 3).unwrap().is_empty());
        fs::write(&path, b"123").unwrap();
        assert_eq!(read_log(&path, 3).unwrap(), b"123");
        let error = read_log(&path, 2).unwrap_err();
        assert!(matches!(error, MeasurementError::TooLong { limit: 2, .. }));
        let error = read_log(folder.path(), 2).unwrap_err();
        assert!(matches!(error, MeasurementError::Unreadable { .. }));
    }

    #[test]
    fn the_command_line_is_found_where_it_was_measured() {
        let text = "root=UUID=1 quiet ä";
        let load_options: Vec<u8> = text
            .encode_utf16()
            .chain([0])
            .flat_map(u16::to_le_bytes)
            .collect();
        // EV_EVENT_TAG, EV_IPL
        let boot = MeasuredBoot::new(vec![
            BootEvent::new(9, 6, &load_options),
            BootEvent::new(9, 6, b"initrd"),
            BootEvent::new(4, 6, &load_options),
            BootEvent::new(11, 13, text.as_bytes()),
        ]);
        let found = preimages(&boot.log(), text);
        let places: Vec<_> = found.iter().map(|one| (one.pcr, one.event)).collect();
        assert_eq!(places, [(9, 1), (11, 4)]);
        assert_eq!(found[0].octets, load_options);
        assert!(preimages(&boot.log(), "root=UUID=2").is_empty());
        assert!(preimages(b"no log", text).is_empty());
    }

    /// Records in the form of systemd 254, shortened.
    #[test]
    fn what_systemd_has_measured_is_found_behind_the_log() {
        let record = |pcr: u8, digest: &str, string: &str| {
            format!(
                "\u{1e}{{\"pcr\":{pcr},\"digests\":[{{\"hashAlg\":\"sha256\",\"digest\":\"{digest}\"}}],\
                 \"content_type\":\"systemd\",\"content\":{{\"string\":\"{string}\",\"bootId\":\"1\"}}}}\n"
            )
        };
        let of_sysinit = hex::encode(&sha256(b"sysinit"));
        let records = [
            record(11, &of_sysinit, "sysinit"),
            // Another digest than that of the text, another PCR, no JSON.
            record(11, &of_sysinit, "ready"),
            record(9, &of_sysinit, "sysinit"),
            "\u{1e}{".to_owned(),
            record(15, &of_sysinit, "sysinit"),
        ];
        let found = events_of_records(records.concat().as_bytes(), 40);
        let explained = found.preimages.iter();
        let places: Vec<_> = explained.map(|one| (one.pcr, one.event)).collect();
        assert_eq!(places, [(11, 40), (15, 42)]);
        assert_eq!(found.preimages[0].octets, b"sysinit");
        let [unexplained] = found.unexplained[..] else {
            panic!("{found:?}")
        };
        assert_eq!((unexplained.pcr, unexplained.event), (11, 41));
        assert_eq!(unexplained.digest.0, sha256(b"sysinit"));
        let many = record(11, &of_sysinit, "sysinit").repeat(100);
        let found = events_of_records(many.as_bytes(), 1);
        assert_eq!(found.preimages.len(), MAX_USER_SPACE_EVENTS);
    }

    /// systemd-cryptsetup measures the key of a volume: the record's text is the message of an HMAC, not what the PCR was extended with.
    #[test]
    fn the_key_of_a_volume_is_measured_without_a_text() {
        let text = "cryptsetup:root:0fc53d2a-9e1e-4ee7-b4a3-1b3d2e9f8a11";
        let digest = hex::encode(&[0x5a; 32]);
        let sha1 = hex::encode(&[0x5a; 20]);
        let record = format!(
            "\u{1e}{{\"pcr\":15,\"digests\":[{{\"hashAlg\":\"sha1\",\"digest\":\"{sha1}\"}},{{\"hashAlg\":\"sha256\",\"digest\":\"{digest}\"}}],\
             \"content_type\":\"systemd\",\"content\":{{\"eventType\":\"volume-key\",\"string\":\"{text}\"}}}}\n"
        );
        let without_text = record.replace(&format!(",\"string\":\"{text}\""), "");
        let only_sha1 = record.replace("sha256", "sha384");
        let records = [record, without_text, only_sha1].concat();
        let found = events_of_records(records.as_bytes(), 7);
        assert_eq!(found.preimages, []);
        let event = |event| UnexplainedEvent {
            pcr: 15,
            event,
            digest: EventDigest([0x5a; 32]),
        };
        assert_eq!(found.unexplained, [event(7), event(8)]);
    }

    #[test]
    fn what_makers_leave_unset_is_left_out() {
        let folder = tempfile::tempdir().unwrap();
        let of = |uuid: &str, serial: &str| {
            fs::write(folder.path().join("product_uuid"), uuid).unwrap();
            fs::write(folder.path().join("product_serial"), serial).unwrap();
            let found = smbios(folder.path());
            let owned = |text: Option<&str>| text.map(str::to_owned);
            (
                owned(found.system_uuid()),
                owned(found.system_serial_number()),
            )
        };
        let (uuid, serial) = of("4C4C4544-0043-3010-8052-B4C04F4E4D31\n", " SN 1\u{7}\n");
        assert_eq!(uuid.unwrap(), "4c4c4544-0043-3010-8052-b4c04f4e4d31");
        assert_eq!(serial.unwrap(), "SN 1");
        let unset = of("00000000-0000-0000-0000-000000000000\n", "\n");
        assert_eq!(unset, (None, None));
        let none = smbios(Path::new("/nonexistent"));
        assert_eq!(none, SmbiosIdentifiers::default());
    }
}
