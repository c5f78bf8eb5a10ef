//! A VM that libvirt runs: what its domain offers to the host's administrators, and a domain that offers nothing.
//!
//! ```text
//!  the XML that libvirt's hook is given ──▶ Domain::read ──▶ Domain::check_tpm   is its TPM the agent's?
//!                                                       └──▶ Domain::check       does its owner's policy let it start?
//!  the XML of a VM that runs unshielded ──▶ Existing::read   what it consists of, for its owner who shields it
//!  vm.toml ──▶ Definition::to_xml ──▶ the XML that `virsh define` takes
//! ```

mod definition;
mod domain;
mod existing;

pub use definition::Definition;
pub use domain::{Breach, Domain, DomainError, HostPrograms, LIMIT, fuzz_libvirt_domain};
pub use existing::{Existing, ExistingError, fuzz_existing_machine};
