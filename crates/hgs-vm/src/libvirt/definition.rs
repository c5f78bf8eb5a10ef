//! A domain for a VM: what `virsh define` takes.

use std::path::Path;

use hgs_xml::Writer;

use crate::description::{Description, Firmware, Network};
use crate::qemu::OvmfFiles;
use crate::qemu::accelerator::Accelerator;

/// What a domain is made from. It has nothing that the policy *shielded* forbids, unless a console is asked for, or the VM
/// starts a kernel from outside its disk.
#[derive(Debug, Clone, Copy)]
pub struct Definition<'a> {
    /// What the VM consists of.
    pub description: &'a Description,
    /// The folder of its disk and its firmware's variables, which libvirt's QEMU may enter.
    pub files: &'a Path,
    /// Where the agent has its TPM.
    pub tpm: &'a Path,
    /// QEMU.
    pub emulator: &'a Path,
    /// The host's firmware.
    pub ovmf: &'a OvmfFiles,
    /// How its processors run.
    pub accelerator: &'a Accelerator,
    /// The network of libvirt's that it is connected to, if not as its description says.
    pub network: Option<&'a str>,
    /// Whether it has a serial port.
    pub console: bool,
}

impl Definition<'_> {
    /// Writes the domain.
    #[must_use]
    pub fn to_xml(&self) -> String {
        let description = self.description;
        let mut xml = Pretty::default();
        let accelerated = matches!(self.accelerator, Accelerator::Kvm);
        xml.open(
            "domain",
            &[("type", if accelerated { "kvm" } else { "qemu" })],
        );
        xml.leaf("name", &[], description.name.as_str());
        xml.leaf("uuid", &[], &description.id.to_string());
        let memory = description.memory.mib().to_string();
        xml.leaf("memory", &[("unit", "MiB"), ("dumpCore", "off")], &memory);
        xml.open("memoryBacking", &[]);
        xml.leaf("nosharepages", &[], "");
        xml.close();
        xml.leaf("vcpu", &[], &u32::from(description.processors).to_string());
        self.start(&mut xml);
        xml.open("features", &[]);
        xml.leaf("acpi", &[], "");
        xml.leaf("apic", &[], "");
        if let Firmware::SecureBoot { .. } = description.firmware {
            xml.leaf("smm", &[("state", "on")], "");
        }
        xml.leaf("vmport", &[("state", "off")], "");
        xml.close();
        match (&description.processor_model, accelerated) {
            (Some(model), _) => {
                xml.open("cpu", &[("mode", "custom"), ("match", "exact")]);
                xml.leaf("model", &[], model.as_str());
                xml.close();
            }
            (None, true) => xml.leaf("cpu", &[("mode", "host-passthrough")], ""),
            (None, false) => xml.leaf("cpu", &[("mode", "maximum")], ""),
        }
        xml.leaf("on_crash", &[], "destroy");
        xml.open("pm", &[]);
        xml.leaf("suspend-to-mem", &[("enabled", "no")], "");
        xml.leaf("suspend-to-disk", &[("enabled", "no")], "");
        xml.close();
        self.devices(&mut xml);
        xml.close();
        xml.finish()
    }

    fn path(&self, name: &str) -> String {
        self.files.join(name).display().to_string()
    }

    /// What starts in it.
    fn start(&self, xml: &mut Pretty) {
        let flash = |xml: &mut Pretty, secure, code: &Path, variables: &str| {
            let attributes = [("readonly", "yes"), ("secure", secure), ("type", "pflash")];
            xml.leaf("loader", &attributes, &code.display().to_string());
            xml.leaf("nvram", &[], &self.path(variables));
        };
        xml.open("os", &[]);
        xml.leaf("type", &[("arch", "x86_64"), ("machine", "q35")], "hvm");
        match &self.description.firmware {
            Firmware::SecureBoot { variables } => {
                flash(xml, "yes", &self.ovmf.secure_code, variables.as_str());
                xml.leaf("boot", &[("dev", "hd")], "");
            }
            Firmware::DirectKernel(boot) => {
                if let Some(variables) = &boot.variables {
                    flash(xml, "no", &self.ovmf.code, variables.as_str());
                }
                xml.leaf("kernel", &[], &self.path(boot.kernel.as_str()));
                if let Some(initrd) = &boot.initrd {
                    xml.leaf("initrd", &[], &self.path(initrd.as_str()));
                }
                xml.leaf("cmdline", &[], boot.command_line.as_str());
            }
        }
        xml.close();
    }

    fn devices(&self, xml: &mut Pretty) {
        xml.open("devices", &[]);
        xml.leaf("emulator", &[], &self.emulator.display().to_string());
        if let Some(disk) = &self.description.disk {
            xml.open("disk", &[("type", "file"), ("device", "disk")]);
            xml.leaf(
                "driver",
                &[("name", "qemu"), ("type", disk.format.name())],
                "",
            );
            xml.leaf("source", &[("file", &self.path(disk.file.as_str()))], "");
            xml.leaf("target", &[("dev", "vda"), ("bus", "virtio")], "");
            xml.close();
        }
        xml.leaf("controller", &[("type", "usb"), ("model", "none")], "");
        let network = match (self.network, self.description.network) {
            (Some(name), _) => Some(("network", Some(name))),
            (None, Network::User) => Some(("user", None)),
            (None, Network::None) => None,
        };
        if let Some((kind, name)) = network {
            xml.open("interface", &[("type", kind)]);
            if let Some(address) = &self.description.mac_address {
                xml.leaf("mac", &[("address", address.as_str())], "");
            }
            if let Some(name) = name {
                xml.leaf("source", &[("network", name)], "");
            }
            xml.leaf("model", &[("type", "virtio")], "");
            // Nothing is started from the network.
            xml.leaf("rom", &[("enabled", "no")], "");
            xml.close();
        }
        if self.console {
            xml.open("serial", &[("type", "pty")]);
            xml.leaf("target", &[("port", "0")], "");
            xml.close();
        }
        xml.open("video", &[]);
        xml.leaf("model", &[("type", "none")], "");
        xml.close();
        xml.leaf("memballoon", &[("model", "none")], "");
        xml.open("rng", &[("model", "virtio")]);
        xml.leaf("backend", &[("model", "builtin")], "");
        xml.close();
        xml.open("tpm", &[("model", "tpm-crb")]);
        xml.open("backend", &[("type", "external")]);
        let socket = self.tpm.display().to_string();
        let source = [
            ("type", "unix"),
            ("mode", "connect"),
            ("path", socket.as_str()),
        ];
        xml.leaf("source", &source, "");
        xml.close();
        xml.close();
        xml.close();
    }
}

/// XML that people read: an element a line.
#[derive(Default)]
struct Pretty {
    writer: Writer,
    depth: usize,
}

impl Pretty {
    fn open(&mut self, name: &str, attributes: &[(&str, &str)]) {
        // Nothing stands before the outermost element.
        if self.depth > 0 {
            self.begin_line();
        }
        self.writer.start(name, attributes);
        self.depth += 1;
    }

    fn leaf(&mut self, name: &str, attributes: &[(&str, &str)], text: &str) {
        self.begin_line();
        self.writer.element(name, attributes, text);
    }

    fn close(&mut self) {
        self.depth -= 1;
        self.begin_line();
        self.writer.end();
    }

    fn begin_line(&mut self) {
        self.writer.text(&format!("\n{}", "  ".repeat(self.depth)));
    }

    fn finish(self) -> String {
        String::from_utf8_lossy(&self.writer.finish()).into_owned() + "\n"
    }
}
