//! Disk images of shielded VMs, made by their owner away from the fabric.
//!
//! ```text
//!  plain disk ──▶ GPT: [ EFI system partition: signed unified kernel image ] [ LUKS2: root file system ]
//!                                    │ measured into PCR 7 by the firmware           ▲ key sealed to the vTPM
//!                   firmware variables with the owner's Secure Boot keys ────────────┘
//! ```
//!
//! Everything works on files: no loop device, no device mapper, no privilege.

mod certificates;
mod clone;
pub mod demo;
mod error;
pub mod esp;
pub mod gpt;
pub mod initrd;
pub mod luks;
pub mod measured;
mod modules;
mod plain;
mod prepare;
mod program;
mod re_enrol;
mod recovery_key;
mod tools;
pub mod unified;
pub mod variables;
mod vtpm;
mod work_folder;

pub use certificates::ImageCertificates;
pub use clone::{Clone, CloneStep, StrictClone, clone};
pub use error::ImageError;
pub use plain::{PlainDisk, PlainDiskError};
pub use prepare::{
    Boot, GuestKernel, Hardware, Preparation, Prepared, Root, SecureBoot, Step, prepare,
};
pub use re_enrol::re_enrol;
pub use recovery_key::{RecoveryKey, RecoveryKeyError};
pub use tools::Tools;
