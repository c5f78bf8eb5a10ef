//! Reading a domain of libvirt.
//!
//! What a domain offers is found by what is *known*: elements that are harmless are named here, those that are a way into the
//! VM are named with what they are, and everything else is [`Exposure::Unknown`], which the policy *shielded* forbids.

use std::fs;
use std::path::{Path, PathBuf};

use hgs_xml::{Document, Element, Limits};

use crate::identifier::VmId;
use crate::protection::{Exposure, Forbidden, Policy};

/// Octets of the largest domain.
pub const LIMIT: usize = 256 * 1024;

/// Domains of libvirt are flat; one with every device that QEMU has needs a tenth of this.
pub(super) const LIMITS: Limits = Limits {
    bytes: LIMIT,
    depth: 32,
    nodes: 20_000,
    attributes: 32,
    namespaces: 24,
    // Nothing in it is signed.
    canonical: 0,
};

/// Where libvirt lets arguments through to QEMU that it does not know itself.
const QEMU: &str = "http://libvirt.org/schemas/domain/qemu/1.0";

/// A domain as libvirt describes it: which VM it is, and what it offers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Domain {
    name: String,
    id: VmId,
    /// The socket of each TPM that another program than libvirt runs; `None` for a TPM of another kind.
    tpms: Vec<Option<PathBuf>>,
    emulators: Vec<PathBuf>,
    firmware: Vec<PathBuf>,
    offers: Vec<Offer>,
}

/// A way into the VM that the domain has.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Offer {
    /// The element, such as `devices/graphics`.
    what: String,
    exposure: Exposure,
}

/// The host's own programs, which take part in what the VM's TPM measures.
#[derive(Debug, Clone, Copy)]
pub struct HostPrograms<'a> {
    /// QEMU.
    pub emulator: &'a Path,
    /// The firmware with Secure Boot.
    pub secure_firmware: &'a Path,
}

/// Why XML is no domain of this host's.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DomainError {
    /// It is not well-formed, or too large.
    #[error("the domain's XML can't be read: {0}")]
    Syntax(#[from] hgs_xml::Error),
    /// The outermost element is another.
    #[error("the XML describes no domain")]
    NoDomain,
    /// It does not say once which domain it is.
    #[error("the domain's XML does not have one {0}")]
    NotOne(&'static str),
    /// What stands in `uuid` is none.
    #[error("the domain's uuid: {0}")]
    Id(String),
    /// Its TPM is not the agent's.
    #[error("the domain's TPM is not the agent's: it needs one <tpm> with the backend `external` and the socket {}", socket.display())]
    OtherTpm {
        /// Where the agent's is.
        socket: PathBuf,
    },
}

/// A domain that the policy of its VM's owner does not let start.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the domain has {what}: {forbidden}")]
pub struct Breach {
    what: String,
    forbidden: Forbidden,
}

impl Domain {
    /// Reads the XML of a domain.
    pub fn read(octets: &[u8]) -> Result<Self, DomainError> {
        let document = Document::parse(octets, &LIMITS)?;
        let root = document.root();
        if root.namespace().is_some() || root.name() != "domain" {
            return Err(DomainError::NoDomain);
        }
        let mut reader = Reader::default();
        for child in root.children() {
            reader.child(child)?;
        }
        reader.finish()
    }

    /// What libvirt calls it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Which VM it is.
    #[must_use]
    pub fn id(&self) -> VmId {
        self.id
    }

    /// Whether one of its TPMs is at a socket below `folder`.
    #[must_use]
    pub fn has_tpm_below(&self, folder: &Path) -> bool {
        let mut sockets = self.tpms.iter().flatten();
        sockets.any(|socket| socket.starts_with(folder))
    }

    /// Whether its only TPM is the one at `socket`.
    ///
    /// # Errors
    /// [`DomainError::OtherTpm`].
    pub fn check_tpm(&self, socket: &Path) -> Result<(), DomainError> {
        match self.tpms.as_slice() {
            [Some(one)] if one == socket => Ok(()),
            _ => Err(DomainError::OtherTpm {
                socket: socket.to_owned(),
            }),
        }
    }

    /// Whether a policy lets it start on a host with these programs.
    ///
    /// # Errors
    /// The first way into the VM that the policy forbids.
    pub fn check(&self, policy: Policy, host: HostPrograms<'_>) -> Result<(), Breach> {
        let mut offers = self.offers.clone();
        let programs = [
            (
                &self.emulators,
                host.emulator,
                "devices/emulator",
                Exposure::OtherEmulator,
            ),
            (
                &self.firmware,
                host.secure_firmware,
                "os/loader",
                Exposure::OtherFirmware,
            ),
        ];
        for (found, own, what, exposure) in programs {
            if !matches!(found.as_slice(), [one] if is_same_file(one, own)) {
                offers.push(Offer {
                    what: format!("another {what} than {}", own.display()),
                    exposure,
                });
            }
        }
        for Offer { what, exposure } in offers {
            if let Err(forbidden) = policy.check(exposure) {
                return Err(Breach { what, forbidden });
            }
        }
        Ok(())
    }
}

fn is_same_file(one: &Path, other: &Path) -> bool {
    match (fs::canonicalize(one), fs::canonicalize(other)) {
        (Ok(one), Ok(other)) => one == other,
        _ => false,
    }
}

#[derive(Debug, Default)]
struct Reader {
    name: Option<String>,
    id: Option<VmId>,
    tpms: Vec<Option<PathBuf>>,
    emulators: Vec<PathBuf>,
    firmware: Vec<PathBuf>,
    offers: Vec<Offer>,
    keeps_pages: bool,
    never_sleeps: bool,
}

impl Reader {
    fn offer(&mut self, what: impl Into<String>, exposure: Exposure) {
        let what = what.into();
        self.offers.push(Offer { what, exposure });
    }

    fn unknown(&mut self, place: &str, element: Element<'_, '_>) {
        let what = format!("{place}{}", hgs_xml::printable(element.name()));
        self.offer(what, Exposure::Unknown);
    }

    fn finish(mut self) -> Result<Domain, DomainError> {
        if !self.keeps_pages {
            self.offer("no memoryBacking/nosharepages", Exposure::SharedMemory);
        }
        if !self.never_sleeps {
            self.offer(
                "no pm/suspend-to-mem with enabled='no', so the guest could skip the firmware's locks,",
                Exposure::OtherFirmware,
            );
        }
        Ok(Domain {
            name: self.name.ok_or(DomainError::NotOne("name"))?,
            id: self.id.ok_or(DomainError::NotOne("uuid"))?,
            tpms: self.tpms,
            emulators: self.emulators,
            firmware: self.firmware,
            offers: self.offers,
        })
    }

    /// An element right below the domain.
    fn child(&mut self, element: Element<'_, '_>) -> Result<(), DomainError> {
        match (element.namespace(), element.name()) {
            (Some(QEMU), name @ ("commandline" | "override")) => {
                self.offer(format!("qemu:{name}"), Exposure::Monitor);
            }
            (Some(_), _) => self.unknown("", element),
            (None, "name") => {
                if self.name.replace(element.text()?.to_owned()).is_some() {
                    return Err(DomainError::NotOne("name"));
                }
            }
            (None, "uuid") => {
                let id = element.text()?.parse().map_err(DomainError::Id)?;
                if self.id.replace(id).is_some() {
                    return Err(DomainError::NotOne("uuid"));
                }
            }
            (None, "memory") => {
                if element.attribute("dumpCore") == Some("on") {
                    self.offer("memory with dumpCore='on'", Exposure::MemoryDump);
                }
            }
            (None, "memoryBacking") => self.memory_backing(element),
            (None, "os") => self.operating_system(element)?,
            (None, "pm") => {
                let mut sleep = element
                    .children()
                    .filter(|one| one.name() == "suspend-to-mem");
                self.never_sleeps =
                    sleep.next().and_then(|one| one.attribute("enabled")) == Some("no");
            }
            (None, "on_crash") => {
                if element.text()?.trim().starts_with("coredump") {
                    self.offer("on_crash with a core dump", Exposure::MemoryDump);
                }
            }
            (None, "devices") => {
                for device in element.children() {
                    self.device(device)?;
                }
            }
            (
                None,
                "genid" | "title" | "description" | "metadata" | "maxMemory" | "currentMemory"
                | "memtune" | "vcpu" | "vcpus" | "iothreads" | "iothreadids" | "defaultiothread"
                | "cputune" | "numatune" | "blkiotune" | "resource" | "features" | "cpu" | "clock"
                | "on_poweroff" | "on_reboot" | "on_lockfailure" | "seclabel" | "launchSecurity"
                | "throttlegroups" | "keywrap",
            ) => {}
            (None, "sysinfo") => self.offer("sysinfo", Exposure::Settings),
            (None, _) => self.unknown("", element),
        }
        Ok(())
    }

    fn memory_backing(&mut self, backing: Element<'_, '_>) {
        for element in backing.children() {
            match element.name() {
                "nosharepages" => self.keeps_pages = true,
                "source" => match element.attribute("type") {
                    Some("memfd" | "anonymous") | None => {}
                    // Or whatever else memory may come from one day.
                    Some(_) => self.offer("memoryBacking/source", Exposure::MemoryDump),
                },
                "access" => {
                    if element.attribute("mode") != Some("private") {
                        self.offer("memoryBacking/access", Exposure::SharedMemory);
                    }
                }
                "hugepages" | "locked" | "allocation" | "discard" => {}
                _ => self.unknown("memoryBacking/", element),
            }
        }
    }

    fn operating_system(&mut self, system: Element<'_, '_>) -> Result<(), DomainError> {
        let mut has_firmware = false;
        for element in system.children() {
            match element.name() {
                "type" | "nvram" | "boot" | "bootmenu" | "firmware" => {}
                "loader" => {
                    has_firmware = true;
                    self.firmware.push(element.text()?.trim().into());
                    for (attribute, value) in
                        [("secure", "yes"), ("type", "pflash"), ("readonly", "yes")]
                    {
                        if element.attribute(attribute) != Some(value) {
                            self.offer(
                                format!("os/loader without {attribute}='{value}'"),
                                Exposure::OtherFirmware,
                            );
                        }
                    }
                }
                name @ ("kernel" | "initrd" | "cmdline" | "dtb" | "shim") => {
                    self.offer(format!("os/{name}"), Exposure::DirectKernel);
                }
                "smbios" => {
                    if element.attribute("mode") != Some("emulate") {
                        self.offer("os/smbios", Exposure::Settings);
                    }
                }
                "acpi" => self.offer("os/acpi", Exposure::Settings),
                _ => self.unknown("os/", element),
            }
        }
        if !has_firmware {
            self.offer("no os/loader", Exposure::OtherFirmware);
        }
        Ok(())
    }

    fn device(&mut self, device: Element<'_, '_>) -> Result<(), DomainError> {
        let name = device.name();
        let exposure = match (name, device.attribute("type")) {
            ("emulator", _) => {
                self.emulators.push(device.text()?.trim().into());
                return Ok(());
            }
            ("tpm", _) => {
                self.tpms.push(external_socket(device));
                return Ok(());
            }
            ("disk", Some("vhostuser")) | ("interface", Some("vhostuser")) | ("shmem", _) => {
                Exposure::SharedMemory
            }
            ("disk", Some("vhostvdpa"))
            | ("interface", Some("hostdev" | "vdpa"))
            | ("input", Some("passthrough" | "evdev"))
            | ("hostdev" | "redirdev" | "smartcard", _) => Exposure::Passthrough,
            ("serial" | "parallel" | "console", kind) => {
                let into_file =
                    kind == Some("file") || device.children().any(|one| one.name() == "log");
                self.offer(format!("devices/{name}"), Exposure::Console);
                if !into_file {
                    return Ok(());
                }
                Exposure::SerialLog
            }
            ("channel" | "vsock" | "filesystem", _) => Exposure::GuestChannel,
            ("graphics" | "sound", _) => Exposure::Screen,
            ("audio", kind) if kind != Some("none") => Exposure::Screen,
            ("video", _) if !device.children().any(is_no_model) => Exposure::Screen,
            ("watchdog", _) if device.attribute("action") == Some("dump") => Exposure::MemoryDump,
            ("memory", _) if !matches!(device.attribute("model"), Some("dimm" | "virtio-mem")) => {
                Exposure::MemoryDump
            }
            (
                "audio" | "video" | "watchdog" | "memory" | "disk" | "interface" | "input"
                | "controller" | "memballoon" | "rng" | "panic" | "iommu" | "lease" | "hub",
                _,
            ) => return Ok(()),
            _ => {
                self.unknown("devices/", device);
                return Ok(());
            }
        };
        self.offer(format!("devices/{name}"), exposure);
        Ok(())
    }
}

/// Whether this is the model of a device that is none.
fn is_no_model(element: Element<'_, '_>) -> bool {
    element.name() == "model" && element.attribute("type") == Some("none")
}

/// Where the program listens that is a domain's TPM, if it is one that libvirt connects to.
fn external_socket(tpm: Element<'_, '_>) -> Option<PathBuf> {
    let mut backends = tpm.children().filter(|one| one.name() == "backend");
    let backend = backends.next()?;
    let mut sources = backend.children().filter(|one| one.name() == "source");
    let source = sources.next()?;
    let is = |element: Element<'_, '_>, name, value| element.attribute(name) == Some(value);
    let connects = is(backend, "type", "external")
        && is(source, "type", "unix")
        && !is(source, "mode", "bind")
        && backends.next().is_none()
        && sources.next().is_none();
    connects
        .then(|| source.attribute("path"))
        .flatten()
        .map(Into::into)
}

/// The body of a fuzz target: whoever may define domains chooses what is in their XML.
///
/// # Panics
///
/// If a domain that is read offers more than its octets can say, or a policy that is stricter lets more start.
pub fn fuzz_libvirt_domain(data: &[u8]) {
    if let Ok(domain) = Domain::read(data) {
        assert!(domain.offers.len() <= data.len() + 8);
        let nowhere = Path::new("/nowhere");
        let host = HostPrograms {
            emulator: nowhere,
            secure_firmware: nowhere,
        };
        assert!(domain.check(Policy::Shielded, host).is_err());
        if let Err(breach) = domain.check(Policy::EncryptionSupported, host) {
            assert!(breach.to_string().contains("encryption-supported"));
        }
    }
}

#[cfg(test)]
mod tests;
