//! The console behind `[listen.console]`. What it shows and does is in `hgs-console`; here a request is taken from a browser,
//! the session is found, and the guardian is asked as its user.

mod by_provider;
mod events;
mod reply;
mod service;
#[cfg(test)]
mod tests;

pub(crate) use service::ConsoleService;
