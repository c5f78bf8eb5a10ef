//! Documents that measurements are compared with, made from files: no guardian is asked.

mod new_baseline;
mod new_ci_policy;
mod predict;

pub(crate) use new_baseline::NewBaseline;
pub(crate) use new_ci_policy::NewCiPolicy;
pub(crate) use predict::{Predictions, Staged};

/// `NAME=VALUE` of an option, whose value may be the name of a file.
pub(crate) fn named_value<V: From<String>>(text: &str) -> Result<(String, V), String> {
    let (name, value) = text.split_once('=').ok_or("give a name, `=` and a value")?;
    Ok((name.to_owned(), value.to_owned().into()))
}
