//! State, generations, named transactions, sealed values and audit over an embedded engine.
