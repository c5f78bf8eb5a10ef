//! The screens: functions from what the guardian answers to HTML.

pub(crate) mod hosts;
pub(crate) mod overview;
pub mod problem;
pub(crate) mod sessions;
pub(crate) mod settings;
pub mod sign_in;
#[cfg(test)]
mod tests;
