//! A VM that libvirt runs today, as its owner wants it shielded: what it is known by from outside, and its disk.

use std::path::PathBuf;

use hgs_xml::{Document, Element};

use super::domain::LIMITS;
use crate::description::{MacAddress, Memory, Processors, VmId};

/// What a shielded VM takes over from one that is not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Existing {
    /// What it is.
    pub id: VmId,
    /// Its main memory.
    pub memory: Memory,
    /// How many processors it has.
    pub processors: Processors,
    /// The address of its network card, if it has one.
    pub mac_address: Option<MacAddress>,
    /// The file of its disk.
    pub disk: Option<PathBuf>,
}

/// Why a VM can't be taken over as it is.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExistingError {
    /// The XML is not well-formed, or too large.
    #[error("the domain's XML can't be read: {0}")]
    Syntax(#[from] hgs_xml::Error),
    /// The outermost element is another.
    #[error("the XML describes no domain; `virsh dumpxml --inactive NAME` prints one")]
    NoDomain,
    /// It ran when this was written.
    #[error(
        "the domain ran when its XML was written: shut it down, and write it with `virsh dumpxml --inactive NAME`"
    )]
    Runs,
    /// It does not say something once.
    #[error("the domain's XML does not have one {0}")]
    NotOne(&'static str),
    /// Something has another form, or a value that no shielded VM has.
    #[error("the domain's {element}: {why}")]
    Value {
        /// The element.
        element: &'static str,
        /// What is wrong with it.
        why: String,
    },
    /// A shielded VM has one of them at most.
    #[error(
        "the domain has {count} {what}, and a shielded VM has one: take the others out of the XML"
    )]
    Several {
        /// How many.
        count: usize,
        /// Of what.
        what: &'static str,
    },
}

impl Existing {
    /// Reads the XML of a domain that does not run.
    pub fn read(octets: &[u8]) -> Result<Self, ExistingError> {
        let document = Document::parse(octets, &LIMITS)?;
        let root = document.root();
        if root.namespace().is_some() || root.name() != "domain" {
            return Err(ExistingError::NoDomain);
        }
        // libvirt gives numbers to domains that run.
        if root.attribute("id").is_some() {
            return Err(ExistingError::Runs);
        }
        let uuid = one(root, "uuid")?.text()?.trim();
        let memory = one(root, "memory")?;
        let count = one(root, "vcpu")?.text()?.trim();
        let value = |element: &'static str| move |why| ExistingError::Value { element, why };
        let processors = count.parse::<u32>().map_err(|error| error.to_string());
        let processors = processors.and_then(Processors::try_from);
        let devices = one(root, "devices")?;
        let disks: Vec<_> = devices.children().filter(|one| is_disk(*one)).collect();
        let cards: Vec<_> = named(devices, "interface").collect();
        Ok(Self {
            id: uuid.parse().map_err(value("uuid"))?,
            memory: in_mib(memory.text()?.trim(), memory.attribute("unit"))
                .map_err(value("memory"))?,
            processors: processors.map_err(value("vcpu"))?,
            mac_address: at_most_one(&cards, "network cards (devices/interface)")?
                .map(mac_address)
                .transpose()?,
            disk: at_most_one(&disks, "disks (devices/disk)")?
                .map(file_of_disk)
                .transpose()?,
        })
    }
}

fn named<'d, 'a>(
    parent: Element<'d, 'a>,
    name: &'static str,
) -> impl Iterator<Item = Element<'d, 'a>> {
    let ours = move |child: &Element<'d, 'a>| child.namespace().is_none() && child.name() == name;
    parent.children().filter(ours)
}

fn one<'d, 'a>(
    parent: Element<'d, 'a>,
    name: &'static str,
) -> Result<Element<'d, 'a>, ExistingError> {
    let mut found = named(parent, name);
    match (found.next(), found.next()) {
        (Some(only), None) => Ok(only),
        _ => Err(ExistingError::NotOne(name)),
    }
}

fn at_most_one<'d, 'a>(
    found: &[Element<'d, 'a>],
    what: &'static str,
) -> Result<Option<Element<'d, 'a>>, ExistingError> {
    match *found {
        [] => Ok(None),
        [only] => Ok(Some(only)),
        _ => Err(ExistingError::Several {
            count: found.len(),
            what,
        }),
    }
}

/// Disks, and not what is put into drives.
fn is_disk(device: Element<'_, '_>) -> bool {
    device.namespace().is_none()
        && device.name() == "disk"
        && matches!(device.attribute("device"), None | Some("disk" | "lun"))
}

fn file_of_disk(disk: Element<'_, '_>) -> Result<PathBuf, ExistingError> {
    let source = one(disk, "source")?;
    match (disk.attribute("type"), source.attribute("file")) {
        (Some("file"), Some(file)) => Ok(PathBuf::from(file)),
        _ => Err(ExistingError::Value {
            element: "disk",
            why: "it is no file: copy it into one with `qemu-img convert -O qcow2`, and name that with `--disk`".to_owned(),
        }),
    }
}

fn mac_address(card: Element<'_, '_>) -> Result<MacAddress, ExistingError> {
    let address = one(card, "mac")?.attribute("address").unwrap_or_default();
    address.parse().map_err(|why| ExistingError::Value {
        element: "interface",
        why,
    })
}

/// Main memory in whole MiB, in one of the units of libvirt; a part of one counts as a whole.
fn in_mib(number: &str, unit: Option<&str>) -> Result<Memory, String> {
    let octets: u64 = match unit.unwrap_or("KiB") {
        "b" | "bytes" => 1,
        "KB" => 1000,
        "k" | "KiB" => 1 << 10,
        "MB" => 1_000_000,
        "M" | "MiB" => 1 << 20,
        "GB" => 1_000_000_000,
        "G" | "GiB" => 1 << 30,
        "TB" => 1_000_000_000_000,
        "T" | "TiB" => 1 << 40,
        other => return Err(format!("{other:?} is no unit")),
    };
    let number: u64 = number
        .parse()
        .map_err(|_| format!("{number:?} is no number"))?;
    let mib = number
        .checked_mul(octets)
        .map(|octets| octets.div_ceil(1 << 20));
    let memory = mib.and_then(|mib| Memory::from_mib(u32::try_from(mib).ok()?));
    memory.ok_or_else(|| "a shielded VM has 128 MiB to 4096 GiB".to_owned())
}

/// What a fuzzer calls.
#[doc(hidden)]
pub fn fuzz_existing_machine(data: &[u8]) {
    drop(Existing::read(data));
}

#[cfg(test)]
mod tests {
    use super::*;

    const XML: &str = "<domain type='kvm'>
  <name>web1</name>
  <uuid>6f2d1c3e-8d0a-4a53-9f1c-0b7f6a1e2d3c</uuid>
  <memory unit='KiB'>2097152</memory>
  <currentMemory unit='KiB'>1048576</currentMemory>
  <vcpu placement='static'>2</vcpu>
  <devices>
    <disk type='file' device='disk'>
      <driver name='qemu' type='qcow2'/>
      <source file='/var/lib/libvirt/images/web1.qcow2'/>
      <target dev='vda' bus='virtio'/>
    </disk>
    <disk type='file' device='cdrom'><target dev='sda' bus='sata'/></disk>
    <interface type='network'><mac address='52:54:00:ab:cd:ef'/><source network='default'/></interface>
  </devices>
</domain>";

    #[test]
    fn a_domain_is_read_as_virsh_writes_it() {
        let existing = Existing::read(XML.as_bytes()).unwrap();
        assert_eq!(
            existing.id.to_string(),
            "6f2d1c3e-8d0a-4a53-9f1c-0b7f6a1e2d3c"
        );
        assert_eq!(existing.memory.mib(), 2048);
        assert_eq!(u32::from(existing.processors), 2);
        assert_eq!(existing.mac_address.unwrap().as_str(), "52:54:00:ab:cd:ef");
        assert_eq!(
            existing.disk.unwrap().to_str(),
            Some("/var/lib/libvirt/images/web1.qcow2")
        );
        let without = XML
            .replace("interface", "filesystem")
            .replace("'disk'", "'floppy'");
        let existing = Existing::read(without.as_bytes()).unwrap();
        assert_eq!((existing.mac_address, existing.disk), (None, None));
    }

    #[test]
    fn what_can_t_be_taken_over_is_named() {
        let disk = "<disk type='file'><source file='/other'/></disk></devices>";
        for (old, new, said) in [
            ("<domain type", "<domain id='3' type", "ran when its XML"),
            ("domain", "network", "describes no domain"),
            ("<uuid>6f2d", "<uuid>x", "domain's uuid"),
            (
                "<uuid>6f2d1c3e-8d0a-4a53-9f1c-0b7f6a1e2d3c</uuid>",
                "",
                "not have one uuid",
            ),
            ("2097152", "1024", "128 MiB"),
            ("2097152", "99999999999999999999", "no number"),
            ("unit='KiB'>2097152", "unit='acres'>2097152", "no unit"),
            (">2</vcpu>", ">0</vcpu>", "number of processors"),
            (
                "52:54:00:ab:cd:ef",
                "53:54:00:ab:cd:ef",
                "no address of a network card",
            ),
            ("</devices>", disk, "2 disks"),
            (
                "<disk type='file' device='disk'>",
                "<disk type='block' device='disk'>",
                "no file",
            ),
            ("</domain>", "", "can't be read"),
        ] {
            let xml = XML.replace(old, new);
            let error = Existing::read(xml.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(said), "{new}: {error}");
        }
        for (unit, mib) in [("M", 2), ("MB", 2), ("b", 1)] {
            let memory = in_mib("2000000", Some(unit));
            match unit {
                "M" => assert_eq!(memory.unwrap().mib(), 2_000_000),
                _ => assert!(memory.is_err() || memory.unwrap().mib() >= mib),
            }
        }
        assert_eq!(in_mib("300000001", Some("b")).unwrap().mib(), 287);
    }
}
