//! `guarded-host vm new --demo`: a VM for trying out, made where it runs.

use std::path::Path;
use std::sync::Arc;

use hgs_agent::{Client, MachineStatus, Request};
use hgs_client::sealed_file::{self, SealedAnew};
use hgs_clock::{Clock as _, SystemClock};
use hgs_crypto::random::{self, System};
use hgs_crypto::{SecretBytes, hex};
use hgs_custody::HeldKeys;
use hgs_pki::{
    Certificate, CertificateCache, Seconds, SignatureCache, Thumbprint, Time, Validity, profile,
};
use hgs_protector::GuardianCertificates;
use hgs_protector::metadata::{Expired, Metadata, Trust};
use hgs_protector::suite::KeyEncryption;
use hgs_terminal::{AtFault, Failure, Terminal};
use hgs_vm::description::{VmId, VmName};
use hgs_vm::identity;
use hgs_vm::image::{
    Hardware, ImageCertificates, ImageError, Preparation, Root, Step, Tools, demo, prepare,
};
use hgs_vm::parts::Parts;
use hgs_vm::protection::{Policy, Protection};
use hgs_vm::swtpm::StateKey;

use crate::agent::client_failure;
use crate::failure::failure;
use crate::host_options::{HostOptions, wait_for};

/// What the owner's certificates say.
const OWNER: &str = "Demonstration";
/// Bits of the owner's keys, which are used once.
const BITS: usize = 2048;
/// How long the owner's certificates are valid. What they signed stays.
const VALIDITY: Seconds = Seconds::from_days(3650);
const BACK: Seconds = Seconds::from_minutes(5);

/// The VM's owner: keys that are in memory only, and are gone when it is made.
struct Owner {
    guardian: GuardianCertificates,
    images: ImageCertificates,
    keys: HeldKeys,
}

/// The VM that is made.
struct Wanted<'a> {
    name: &'a VmName,
    folder: &'a Path,
    /// Whose hosts may run it.
    fabric: &'a GuardianCertificates,
    /// What its guest says when its disk has opened.
    line: &'a str,
}

/// Makes the VM, and has the agent import it. Returns its status and the line that its guest says when its disk has opened.
pub(super) fn demonstration(
    name: &VmName,
    thumbprint: Option<Thumbprint>,
    options: &HostOptions,
    client: &Client,
    terminal: &Terminal,
) -> Result<(MachineStatus, String), Failure> {
    let taken = client.list().map_err(client_failure)?;
    if taken.iter().any(|vm| vm.name == name.as_str()) {
        return Err(Failure::refused(format!("this host has a VM named {name}"))
            .at_fault(AtFault::Operator));
    }
    let host = options.open(terminal)?;
    let fabric = fabric(&wait_for(host.metadata())?, thumbprint, terminal)?;
    let parts = Parts::of_user(&mut |what| terminal.note(what))
        .map_err(|error| Failure::of(&error).at_fault(AtFault::Operator))?;
    let tools = Tools::of(&parts).map_err(image_failure)?;
    terminal.note("making keys for the VM's owner, which are not kept ...");
    let now = SystemClock.now();
    let owner = Owner::new(now)?;
    let line =
        hex::encode(&random::array::<16>(&mut System::new()).map_err(|error| Failure::of(&error))?);

    let work = options.folders()?.state.join("new-vms");
    hgs_files::private_folder(&work).map_err(failure)?;
    let folder = work.join(name.as_str());
    if hgs_files::exists(&folder).map_err(failure)? {
        // What an earlier attempt made and did not import; nobody has started it.
        hgs_files::remove_folder(&folder).map_err(failure)?;
    }
    let wanted = Wanted {
        name,
        folder: &folder,
        fabric: &fabric,
        line: &line,
    };
    owner.make(&wanted, (&parts, &tools), now, terminal)?;
    let imported = client.ask(
        &Request::Import {
            folder: folder.clone(),
            name: None,
        },
        |what| terminal.note(format_args!("{what} ...")),
    );
    hgs_files::remove_folder(&folder).map_err(failure)?;
    Ok((imported.map_err(client_failure)?, line))
}

/// The guardian of this host, as it describes itself.
fn fabric(
    document: &[u8],
    thumbprint: Option<Thumbprint>,
    terminal: &Terminal,
) -> Result<GuardianCertificates, Failure> {
    let guardian_fails = |error: &dyn std::error::Error| {
        Failure::of(error)
            .at_fault(AtFault::Guardian)
            .while_doing("the guardian's metadata")
    };
    let (certificates, signatures) = (CertificateCache::new(8), SignatureCache::new(8));
    let metadata = Metadata::read(document, &certificates, &signatures);
    let metadata = metadata.map_err(|error| guardian_fails(&error))?;
    let signing = metadata.unverified().signing_certificate().thumbprint();
    let trust = match thumbprint {
        Some(thumbprint) => Trust::Thumbprint(thumbprint),
        None => {
            terminal.note(format_args!(
                "The guardian {signing} is taken on its own word, which does for a demonstration; `--thumbprint` verifies it."
            ));
            Trust::DangerousNone
        }
    };
    let imported = metadata.import(&trust, Expired::Refuse, SystemClock.now());
    imported.map_err(|error| Failure::refused(error).at_fault(AtFault::Guardian))
}

fn image_failure(error: ImageError) -> Failure {
    Failure::of(&error)
}

impl Owner {
    fn new(now: Time) -> Result<Self, Failure> {
        let validity = Validity {
            not_before: now.checked_sub(BACK).unwrap_or(Time::MIN),
            not_after: now.checked_add(VALIDITY).unwrap_or(Time::MAX),
        };
        let mut keys = HeldKeys::default();
        let mut make = |template| -> Result<Certificate, Failure> {
            let made = hgs_custody::self_signed(template, BITS);
            let (certificate, key) =
                made.map_err(|error| Failure::of(&error).at_fault(AtFault::Ourselves))?;
            keys.hold(&certificate, Arc::new(key));
            Ok(certificate)
        };
        let signing = make(profile::guardian_signing(OWNER, validity))?;
        let encryption = make(profile::guardian_encryption(OWNER, validity))?;
        let [authority, platform, exchange, signature] =
            ImageCertificates::templates(OWNER, validity);
        let images = ImageCertificates::of([
            make(authority)?,
            make(platform)?,
            make(exchange)?,
            make(signature)?,
        ]);
        let guardian =
            GuardianCertificates::certify(signing, encryption, KeyEncryption::RsaOaep, &mut &keys);
        Ok(Self {
            guardian: guardian.map_err(|error| Failure::of(&error))?,
            images,
            keys,
        })
    }

    /// Makes the VM. Its recovery key goes with the owner's other keys.
    fn make(
        &self,
        wanted: &Wanted<'_>,
        (parts, tools): (&Parts, &Tools),
        now: Time,
        terminal: &Terminal,
    ) -> Result<(), Failure> {
        let ours = |error: &dyn std::error::Error| Failure::of(error).at_fault(AtFault::Ourselves);
        let mut random = System::new();
        let guardians = std::slice::from_ref(wanted.fabric);
        let id = VmId::new(&mut random).map_err(|error| ours(&error))?;
        // With a console, on which the guest is heard.
        let protection = Protection {
            vm: id,
            policy: Policy::EncryptionSupported,
        };
        let document = SecretBytes::new(protection.to_json());
        let keys = &mut &self.keys;
        let sealed =
            sealed_file::seal_anew(&document, &self.guardian, guardians, keys, &mut random);
        let SealedAnew {
            key,
            protector,
            file,
        } = sealed.map_err(|error| ours(&error))?;
        let kernel = parts.kernel().map_err(|error| Failure::of(&error))?;
        let mut signing = &self.keys;
        let mut make_vtpm = |folder: &Path, key: &StateKey| {
            let (name, keys) = (wanted.name.as_str(), &mut &self.keys);
            (self.images).endorse(keys, name, now, |subject, authority| {
                identity::make(&tools.swtpm, folder, key, subject, authority)
            })
        };
        let preparation = Preparation {
            target: wanted.folder,
            hardware: Hardware::of_demonstration(wanted.name.clone(), id),
            boot: self.images.boot(&mut signing),
            kernel: Some((&kernel).into()),
            command_line: demo::COMMAND_LINE,
            root: Root::Demo(wanted.line),
            state_key: &StateKey::of_transport_key(key.secret()).map_err(|error| ours(&error))?,
            protector: protector.octets(),
            protection: &file,
            make_vtpm: &mut make_vtpm,
        };
        prepare(preparation, tools, &mut |step| {
            let what = match step {
                Step::Root => "making the guest's root file system ...",
                Step::Vtpm => "making its virtual TPM ...",
                Step::Kernel => "making its signed kernel image ...",
                _ => return,
            };
            terminal.note(what);
        })
        .map(drop)
        .map_err(image_failure)
    }
}
