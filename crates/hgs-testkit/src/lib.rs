//! Fakes, fixtures and judges for tests.

pub mod fixtures;
mod outside;

pub use outside::{shared, tool};
