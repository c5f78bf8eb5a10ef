//! Fakes, fixtures and judges for tests.
