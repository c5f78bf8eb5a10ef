//! Policies: what the measurements of a host are judged by.
//!
//! [`RecordedEvidence::prove`] replays what a host sent against PCR values; a [`PolicySet`] judges the [`Evidence`] that
//! comes out. A set is compiled from a [`PolicySelection`] and [`Documents`]: [`Baseline`]s say what may be measured at
//! boot, [`CiPolicy`]s which files may run, [`DumpKey`]s what may write crash dumps. [`PolicySet::for_host`] adds what only one
//! host has, its [`HostMeasurements`]. Without anything to match a set is not made, and a default one refuses.
//!
//! [`Baseline::of_evidence`] makes a baseline from a boot. Alternatives are added from files ([`Baseline::predict_kernel`] and
//! its like), from component files of systemd-pcrlock ([`read_pcrlock`]), from values that vendors publish, from what hosts
//! measured of their own files ([`HostMeasurements::accept_claim`], [`NextBootClaim`]), and from refused boots ([`approve`]).
//!
//! Nothing here follows from types of events, from their order among PCRs, or from data that is not the preimage of its
//! digest.

mod alternative;
mod approve;
mod baseline;
mod code_integrity;
mod compile;
mod difference;
mod document;
mod evaluate;
mod evaluation;
mod evidence;
#[doc(hidden)]
pub mod fuzzing;
mod host_measurements;
mod judge;
mod name;
mod next_boot;
mod of_evidence;
mod pcrlock;
mod predict;
mod walk;

pub use alternative::{
    Alternative, Encoding, ExpectedEvent, MAX_ALTERNATIVES, MAX_EVENTS, MAX_TEXT_OCTETS,
    Parameters, SlotEvents, Source, SourceKind, State, TemplateError, literal, without_parameters,
};
pub use approve::{Approval, ApprovalError, approve};
pub use baseline::{
    BASELINE_KIND, Baseline, Component, ComponentKind, FINAL_VALUES, FinalValue, LaneSlots,
    MAX_BASELINE_OCTETS, MAX_COMPONENTS, Slot, Times,
};
pub use code_integrity::{
    CI_POLICY_KIND, CiFailure, CiPolicy, DUMP_KEY_KIND, DumpKey, FILES, FileSet,
    MAX_CI_POLICY_OCTETS, MAX_DUMP_KEY_OCTETS, PathFiles, RefusedFile, RefusedFileCause,
};
pub use compile::{BaselineError, MAX_REPEATS};
pub use difference::{Cause, Difference, Expected, FoundEvent, MAX_EXPECTED, SlotName};
pub use document::{DocumentError, EventDigest, VERSION};
pub use evaluate::{Documents, PolicySet, PolicySetError};
pub use evaluation::{Evaluation, PolicyResult};
pub(crate) use evidence::PCRS_OF_USER_SPACE;
pub use evidence::{Evidence, EvidenceError, Preimage, RecordedEvidence, UnexplainedEvent};
pub use host_measurements::{
    HOST_MEASUREMENTS_KIND, HostComponent, HostMeasurements, MAX_HOST_MEASUREMENTS_OCTETS,
};
pub use judge::{CommandLineUnknown, Outcome, PolicyFailure};
pub use name::{DecidedBy, PolicyName, PolicySelection, PolicySettingError};
pub use next_boot::{
    AcceptedNextBoot, MAX_NEXT_BOOT_OCTETS, NEXT_BOOT_PERIOD, NextBootClaim, NextBootError,
    next_boot_confirmation,
};
pub use of_evidence::{KERNEL, LOADER, SECURE_BOOT, SHIM, claim_of_next_boot, proposed_parameters};
pub use pcrlock::{
    MAX_PCRLOCK_OCTETS, MAX_PCRLOCK_RECORDS, PcrlockError, component_of_pcrlock, read_pcrlock,
};
pub use predict::{Label, Prediction, PredictionError};
pub use walk::UsedAlternative;

/// Evidence, and how it was judged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Measured {
    /// What the host sent, and what its TPM proved.
    pub evidence: RecordedEvidence,
    /// How it was judged; why it could not be, if it is no evidence.
    pub evaluation: Result<Evaluation, EvidenceError>,
}
