//! Administration of the guardian: the service behind `[listen.admin]`. What can be asked is declared in `hgs-admin`.
//!
//! A request comes to the [`AdminService`], which asks [`Roles`](crate::Roles) what its caller may do and finds the
//! operation. The operation checks the caller's permission and calls its method of the [`AdminHandler`], which reads the
//! state or commits a transaction with its audit record.

mod handler;
mod service;
#[cfg(test)]
mod tests;
mod views;

pub(crate) use service::AdminService;
