//! What boots are judged by: baselines, policies, and what is approved.

mod common;
mod recorded_boots;
