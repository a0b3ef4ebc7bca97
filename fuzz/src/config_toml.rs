//! The readers of configuration files: on any bytes they do not panic, take bounded time, and tell what is wrong at places that are
//! in the text. What reads well can be edited, and reads well again.
#![no_main]

#[path = "../../lb-user/src/config"]
#[allow(
    dead_code,
    unreachable_pub,
    unused_imports,
    reason = "modules of the library, of which this needs a part"
)]
mod config {
    pub(crate) mod edit;
    pub(crate) mod encoding;
    pub(crate) mod parse;
    pub(crate) mod problem;
    pub(crate) mod raw;
    pub(crate) mod spanned;
}

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use serde::de::DeserializeOwned;

use crate::config::edit::{Edit, Literal, apply};
use crate::config::problem::Source;
use crate::config::{edit, encoding, parse, raw};

fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = encoding::decode(bytes) else { return };
    let sound = reads::<raw::ClusterFile>(&text);
    reads::<raw::NodeFile>(&text);
    let set = Edit::Set(edit::Path::key("cluster").then("period_ms"), Literal::Number(20));
    match apply(&text, &[set]) {
        Ok(edited) => assert!(!sound || reads::<raw::ClusterFile>(&edited), "{edited}"),
        // A cluster file has a table of that name.
        Err(error) => assert!(!sound, "{error}"),
    }
});

fn reads<T: DeserializeOwned>(text: &str) -> bool {
    let Err(problems) = parse::parse::<T>(text) else { return true };
    assert!(!problems.is_empty() && problems.len() <= 64, "{}", problems.len());
    for problem in &problems {
        let (start, end) = problem.place();
        assert!(start <= end && text.get(start..end.min(text.len())).is_some(), "{problem:?}");
    }
    assert!(!Source { path: Path::new("cluster.toml"), text }.errors(problems).to_string().is_empty());
    false
}
