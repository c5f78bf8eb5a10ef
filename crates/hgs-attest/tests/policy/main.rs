//! What boots are judged by: baselines, policies, and what is approved.

mod approval;
mod common;
mod compiling;
mod debian;
mod documents;
mod hostile;
mod matching;
mod patch_day;
mod policies;
mod prediction;
mod recorded_boots;
mod unexplained;
