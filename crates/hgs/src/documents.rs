//! Documents that measurements are compared with, made from files: no guardian is asked.

mod new_baseline;
mod new_ci_policy;
mod predict;

pub(crate) use new_baseline::NewBaseline;
pub(crate) use new_ci_policy::NewCiPolicy;
pub(crate) use predict::{Predictions, Staged};
