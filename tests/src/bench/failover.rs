//! Bench.

/// Run.
pub fn run(_quick: bool) -> anyhow::Result<()> {
    Ok(())
}
