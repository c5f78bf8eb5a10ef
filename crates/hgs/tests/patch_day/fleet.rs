//! A fleet of hosts of one model, each with disk, boot order and root file system of its own, that boot through shim and
//! GRUB as the host of the real boot did: every event of its log has its place here, some with other contents.

use hgs_crypto::hash::{Sha256Digest, sha256, sha256_of};
use hgs_tcg::image::{
    Guid, OwnMokVariables, PeImage, Shim, SignatureData, SignatureList, VariableData,
    VendorAuthorized,
};
use hgs_testkit::made_image::{LATEST, plain, shim_image};
use hgs_testkit::measured_boot::{BootEvent, MeasuredBoot};

const IPL: u32 = 0x0d;
const NO_OWN_MOK: OwnMokVariables<'static> = OwnMokVariables {
    mok_list: &[],
    mok_list_x: &[],
};

/// The software of a host, as the files that its packages and its firmware update bring.
#[derive(Debug, Clone)]
pub(crate) struct Software {
    /// Which version of the firmware: its image is not in a file.
    pub(crate) firmware: u8,
    /// The contents of dbx.
    pub(crate) revoked: Vec<u8>,
    pub(crate) shim: Vec<u8>,
    pub(crate) loader: Vec<u8>,
    pub(crate) kernel: Vec<u8>,
    /// Files that IMA measures: path and contents.
    pub(crate) programs: Vec<(String, Vec<u8>)>,
}

impl Software {
    /// What the fleet runs before the patch day.
    pub(crate) fn before() -> Self {
        Self {
            firmware: 1,
            revoked: vec![0x26; 76],
            shim: shim_image(&certificate(1), &denied(7)).octets(),
            loader: plain().with(".data", b"loader 1").octets(),
            kernel: plain().with(".data", b"kernel 6.1.0-56").octets(),
            programs: vec![("/usr/bin/agent".to_owned(), b"agent 1".to_vec())],
        }
    }

    /// What it runs after: all but the loader is new.
    pub(crate) fn after() -> Self {
        Self {
            firmware: 2,
            revoked: vec![0x27; 124],
            shim: shim_image(&certificate(2), &denied(8)).octets(),
            kernel: plain().with(".data", b"kernel 6.1.0-57").octets(),
            programs: vec![("/usr/bin/agent".to_owned(), b"agent 2".to_vec())],
            ..Self::before()
        }
    }
}

/// Octets in the place of the vendor's certificate; what stands in a certificate is not looked at.
fn certificate(version: u8) -> Vec<u8> {
    let mut octets = hgs_testkit::made_image::certificate_like();
    octets[10] = version;
    octets
}

/// A vendor's list of images that no longer start.
fn denied(image: u8) -> Vec<u8> {
    let entry = SignatureData {
        owner: Guid::SHIM_LOCK,
        data: &[image; 32],
    };
    SignatureList::encode(Guid::CERT_SHA256, &[entry]).unwrap()
}

/// One host of the fleet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Host(pub(crate) u16);

impl Host {
    pub(crate) fn name(self) -> String {
        format!("host{:03}", self.0)
    }

    /// The UUID of its root file system.
    pub(crate) fn root(self) -> String {
        format!("5a3c0f7e-0000-4000-8000-{:012x}", self.0)
    }

    pub(crate) fn command_line(self) -> String {
        format!("/vmlinuz root=UUID={} ro quiet", self.root())
    }

    pub(crate) fn loader_configuration(self) -> String {
        format!(
            "search --fs-uuid {}\nlinux {}\ninitrd /initrd.gz\n",
            self.root(),
            self.command_line()
        )
    }

    pub(crate) fn initrd(self) -> Vec<u8> {
        format!("initrd of {}", self.name()).into_bytes()
    }

    /// What is measured when it boots `software`; `real` is the real boot that it follows.
    pub(crate) fn boot(self, real: &MeasuredBoot, software: &Software) -> MeasuredBoot {
        let mut boot = real.clone();
        let events = &mut boot.events;
        // Numbers of the log count from 1.
        let mut digest = |number: usize, digest: Sha256Digest| events[number - 1].digest = digest;
        let firmware = [software.firmware];
        digest(2, sha256_of(&[b"early firmware", &firmware]));
        digest(3, sha256_of(&[b"firmware", &firmware]));
        let authenticode = |file: &[u8]| {
            let image = PeImage::parse(file).expect("a made image");
            let digests = image.authenticode_sha256();
            digests.alternatives().next().expect("one digest")
        };
        digest(24, authenticode(&software.shim));
        digest(30, authenticode(&software.loader));
        let kernel_image = authenticode(&software.kernel);
        digest(42, kernel_image);
        digest(43, kernel_image);
        digest(41, sha256(&software.kernel));
        digest(46, sha256(&self.initrd()));
        digest(35, sha256(self.loader_configuration().as_bytes()));
        self.shim_events(&software.shim, events);
        self.own_events(&software.revoked, events);
        self.loader_texts(events);
        boot
    }

    fn shim_events(self, shim: &[u8], events: &mut [BootEvent]) {
        let image = PeImage::parse(shim).unwrap();
        let shim = Shim::of_image(&image).unwrap();
        events[25 - 1].digest = sha256(&shim.mok_list(&NO_OWN_MOK));
        events[26 - 1].digest = sha256(&shim.mok_list_x(&NO_OWN_MOK));
        let VendorAuthorized::Certificate(data) = shim.vendor_authorized() else {
            panic!("the fleet's shim has one certificate");
        };
        let owner = Guid::SHIM_LOCK;
        let level = VariableData::new(owner, "SbatLevel", LATEST.as_bytes());
        let authority = VariableData::authority(owner, "MokListRT", &SignatureData { owner, data });
        for (number, variable) in [(27, level), (29, authority)] {
            let event = &mut events[number - 1];
            *event = BootEvent::new(event.pcr, event.event_type, &variable.unwrap().octets());
        }
    }

    /// Boot order and boot entry, and the partition table; of shim's and the firmware's variables dbx.
    fn own_events(self, revoked: &[u8], events: &mut [BootEvent]) {
        let mut variable = |number: usize, data: &[u8], only_data: bool| {
            let event = &mut events[number - 1];
            let read = VariableData::parse(&event.data).unwrap();
            let new = VariableData::new(read.vendor(), read.name(), data).unwrap();
            event.data = new.octets();
            event.digest = match only_data {
                true => sha256(data),
                false => sha256(&event.data),
            };
        };
        variable(8, revoked, false);
        let [low, high] = self.0.to_le_bytes();
        variable(10, &[1, 0, 0, 0, 2, 0, low, high], true);
        variable(
            11,
            &[b"boot entry of ".as_slice(), &[low, high]].concat(),
            true,
        );
        let table = &mut events[23 - 1];
        // The GUID of the disk.
        table.data[56..58].copy_from_slice(&[low, high]);
        table.digest = sha256(&table.data);
    }

    fn loader_texts(self, events: &mut [BootEvent]) {
        let mut text = |number: usize, prefix: &str, text: &str| {
            let data = format!("{prefix}{text}\0");
            let event = BootEvent::new(8, IPL, data.as_bytes());
            events[number - 1] = BootEvent {
                digest: sha256(text.as_bytes()),
                ..event
            };
        };
        let command_line = self.command_line();
        text(
            39,
            "grub_cmd: ",
            &format!("search --fs-uuid {}", self.root()),
        );
        text(40, "grub_cmd: ", &format!("linux {command_line}"));
        text(44, "kernel_cmdline: ", &command_line);
    }
}

/// The IMA log of a boot with these PCRs, and what PCR 10 is extended with: `boot_aggregate`, and each program.
pub(crate) fn ima(pcrs: &[[u8; 32]; 24], software: &Software) -> (Vec<u8>, Vec<[u8; 32]>) {
    let aggregate = sha256(&pcrs[..10].concat());
    let programs = software.programs.iter();
    let programs = programs.map(|(path, contents)| (path.as_str(), sha256(contents)));
    let (mut log, mut extensions) = (Vec::new(), Vec::new());
    for (path, digest) in [("boot_aggregate", aggregate)].into_iter().chain(programs) {
        let fields = [
            [b"sha256:\0".as_slice(), &digest].concat(),
            format!("{path}\0").into_bytes(),
        ];
        let sized = |octets: &[u8]| [&(octets.len() as u32).to_le_bytes()[..], octets].concat();
        let data = fields.map(|field| sized(&field)).concat();
        log.extend(10_u32.to_le_bytes());
        log.extend(hgs_crypto::hash::sha1_of(&[&data]));
        log.extend(sized(b"ima-ng"));
        log.extend(sized(&data));
        extensions.push(sha256(&data));
    }
    (log, extensions)
}
