//! What is kept, and what a node begins with.

use std::os::unix::fs::PermissionsExt as _;
use std::sync::atomic::{AtomicU32, Ordering};

use super::super::tests::config;
use super::*;

const RULES: &str =
    "[[rule]]\nports = 25\n[[rule]]\nports = 53\n[[rule]]\nports = 80\nfiltering = \"disabled\"\n";

fn rules(text: &str) -> Vec<PortRule> {
    config(text).cluster.rules
}

/// Suspended, with a rank, a weight, and something told of tcp 53 alone.
fn told() -> Mandate {
    let drained = TableMandate { intent: Intent::Draining, weight: Some(7) };
    Mandate {
        intent: Intent::Suspended,
        rank: Priority::new(9),
        weight: Some(0),
        tables: vec![TableMandate::default(), TableMandate::default(), drained],
    }
}

#[tokio::test]
async fn what_was_told_is_there_after_a_restart() {
    let folder = Folder::new();
    let (keeper, writer) = Keeper::new(folder.0.join("state"), rules(RULES));
    let writer = tokio::spawn(writer.run());
    keeper.settled().await;
    keeper.keep(Mandate::default());
    keeper.keep(told());
    keeper.settled().await;
    let file = folder.0.join("state/mandate.json");
    assert_eq!(fs::metadata(file).unwrap().permissions().mode() & 0o777, 0o600);
    let begins = |initial, again| begin(&folder.0.join("state"), initial, again, &rules(RULES));
    assert_eq!(begins(InitialState::AsBefore, false), told());
    assert_eq!(begins(InitialState::Started, true), told(), "a restart by the operator changes nothing");
    drop(keeper);
    writer.await.unwrap();
}

#[test]
fn the_initial_state_is_as_configured_but_a_suspension_stays() {
    use InitialState::{AsBefore, Started, Stopped, Suspended};
    let rows = [
        (Intent::Draining, AsBefore, Intent::Draining),
        (Intent::Draining, Started, Intent::Started),
        (Intent::Started, Stopped, Intent::Stopped),
        (Intent::Stopped, Suspended, Intent::Suspended),
        (Intent::Suspended, AsBefore, Intent::Suspended),
        (Intent::Suspended, Started, Intent::Suspended),
        (Intent::Suspended, Stopped, Intent::Suspended),
    ];
    for (left, initial, expected) in rows {
        let folder = Folder::new();
        let mandate = Mandate { intent: left, weight: Some(3), ..Mandate::default() };
        write(&folder.0, FILE, &Kept::of(&mandate, &[])).unwrap();
        let begun = begin(&folder.0, initial, false, &[]);
        assert_eq!(begun.intent, expected, "{left:?} {initial:?}");
        assert_eq!(begun.weight.is_some(), initial == AsBefore, "{left:?} {initial:?}");
    }
    let nothing = Folder::new();
    assert_eq!(begin(&nothing.0, AsBefore, false, &[]), Mandate::default());
    assert_eq!(begin(&nothing.0, Stopped, false, &[]).intent, Intent::Stopped);
}

#[test]
fn rules_are_known_by_name_and_those_that_are_gone_are_dropped() {
    let kept = Kept::of(&told(), &rules(RULES));
    assert_eq!(kept.rules.keys().collect::<Vec<_>>(), ["tcp 53"]);
    // In another table now.
    let (mandate, lost) =
        kept.clone().mandate(&rules("[[rule]]\nports = 20\n[[rule]]\nports = 25\n[[rule]]\nports = 53\n"));
    assert_eq!((mandate.table(3), lost), (told().table(2), vec![]));
    let (mandate, lost) = kept.mandate(&rules("[[rule]]\nports = 25\n"));
    assert_eq!((mandate.tables, lost), (vec![], vec!["tcp 53".to_owned()]));
}

#[test]
fn what_was_told_one_rule_is_not_meant_for_those_that_move_with_it_now() {
    let kept = Kept::of(&told(), &rules(RULES));
    let many: String = (0..32).map(|number| format!("[[rule]]\nports = {}\n", 50 + number)).collect();
    let (mandate, lost) = kept.mandate(&rules(&many));
    assert_eq!((mandate.tables, lost), (vec![], vec!["tcp 53".to_owned()]));
}

#[test]
fn a_damaged_file_is_set_aside_and_the_node_begins_started() {
    let long = format!("{{\"version\": 1{}}}", " ".repeat(300 << 10));
    let sound = "\"intent\":\"started\",\"priority\":null,\"weight\":null,\"rules\":";
    for text in [
        "",
        "{",
        "\0\0\0\0",
        &format!("{{\"version\":2,{sound}{{}}}}"),
        &format!("{{\"version\":1,{sound}{{\"tcp 25\":{{\"intent\":\"suspended\",\"weight\":null}}}}}}"),
        &format!("{{\"version\":1,{sound}{{\"tcp 25\":{{\"intent\":\"started\",\"weight\":101}}}}}}"),
        "{\"version\":1,\"intent\":\"stopped\",\"priority\":200,\"weight\":null,\"rules\":{}}",
        &long,
    ] {
        let folder = Folder::new();
        fs::write(folder.0.join(FILE), text).unwrap();
        let begun = begin(&folder.0, InitialState::AsBefore, false, &rules(RULES));
        assert_eq!(begun, Mandate::default(), "{:.80}", text);
        assert_eq!(fs::read_to_string(folder.0.join("mandate.json.bad")).unwrap(), text);
        assert!(!folder.0.join(FILE).exists());
    }
}

#[tokio::test]
async fn a_folder_that_cannot_be_written_keeps_nobody_waiting() {
    let folder = Folder::new();
    fs::write(folder.0.join("file"), "").unwrap();
    let (keeper, writer) = Keeper::new(folder.0.join("file"), Vec::new());
    tokio::spawn(writer.run());
    keeper.keep(told());
    keeper.settled().await;
}

struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("rollcall-keep-{}-{number}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
