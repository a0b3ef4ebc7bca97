//! In the place of the library's `proxy`: what `shared` names of it.

#[path = "../../../lb-user/src/proxy/metrics"]
pub mod metrics {
    mod tally;

    pub use tally::Tally;
}
