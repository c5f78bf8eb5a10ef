//! Fakes, fixtures and judges for tests.

mod outside;

pub use outside::{shared, tool};
