//! A file that Windows wrote, or anybody: text, XML and model are read within their bounds, and each node of it is in the ledger once.
#![no_main]

#[path = "../../lb-user/src/iis/ledger.rs"]
#[allow(dead_code, unreachable_pub, reason = "a module of the import, of which this needs a part")]
mod ledger;
#[path = "../../lb-user/src/iis/model.rs"]
#[allow(dead_code, unreachable_pub, reason = "likewise")]
mod model;
#[path = "../../lb-user/src/iis/read.rs"]
#[allow(dead_code, unreachable_pub, reason = "likewise")]
mod read;
#[path = "../../lb-user/src/iis/text.rs"]
#[allow(dead_code, unreachable_pub, reason = "likewise")]
mod text;
#[path = "../../lb-user/src/iis/xml.rs"]
#[allow(dead_code, unreachable_pub, reason = "likewise")]
mod xml;

use libfuzzer_sys::fuzz_target;

use crate::ledger::Ledger;
use crate::xml::Element;

fuzz_target!(|input: &[u8]| {
    let Ok(text) = text::decode(input) else {
        return;
    };
    let lines = text.matches('\n').count() + 1;
    match xml::parse(&text) {
        Ok(root) => {
            let mut ledger = Ledger::of(&root);
            read::read(&root, &mut ledger);
            let findings = ledger.findings();
            assert_eq!(findings.len(), nodes(&root));
            assert!(findings.iter().all(|finding| (1..=lines).contains(&finding.line)));
        }
        Err(error) => assert!((1..=lines).contains(&error.line), "{error}"),
    }
});

fn nodes(element: &Element) -> usize {
    let children: usize = element.children.iter().map(nodes).sum();
    1 + element.attributes.len() + element.texts.len() + children
}
