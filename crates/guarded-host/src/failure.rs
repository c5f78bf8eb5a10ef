//! From the library's errors to what a program says.

use hgs_client::{Error, Fault};
use hgs_terminal::{AtFault, Failure};

/// The failure with its party and its remedy; a refusal, where trying again is of no use.
pub(crate) fn failure(error: impl Into<Error>) -> Failure {
    let error = error.into();
    let failure = if error.is_refusal() {
        Failure::refused(&error)
    } else {
        Failure::failed(&error)
    };
    let failure = failure.at_fault(at_fault(error.fault()));
    let failure = match error.request_id() {
        Some(id) => failure.request_id(id),
        None => failure,
    };
    match error.remedy() {
        Some(remedy) => failure.remedy(remedy),
        None => failure,
    }
}

pub(crate) fn at_fault(fault: Fault) -> AtFault {
    match fault {
        Fault::Guardian => AtFault::Guardian,
        Fault::Host => AtFault::Host,
        Fault::Network => AtFault::Network,
        Fault::Operator => AtFault::Operator,
        Fault::Ourselves => AtFault::Ourselves,
        Fault::Protector => AtFault::Protector,
    }
}
