//! What boots are judged by: baselines, policies, and what is approved.

mod approval;
mod common;
mod compiling;
mod matching;
mod prediction;
mod recorded_boots;
