//! The console behind `[listen.console]`. What it shows and does is in `hgs-console`; here a request is taken from a browser,
//! the session is found, and the guardian is asked as its user.

mod browser;
mod by_certificate;
mod by_provider;
mod events;
mod fuzzing;
mod reply;
mod service;
#[cfg(test)]
mod tests;

#[doc(hidden)]
pub use fuzzing::fuzz_console_request;
pub(crate) use service::ConsoleService;
