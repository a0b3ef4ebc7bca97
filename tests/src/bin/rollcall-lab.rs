//! Demo and benches.
fn main() {}
