//! The engine of a bus on a virtual line.
#[path = "../line/mod.rs"]
mod line;
