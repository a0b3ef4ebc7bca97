//! `[config]`: where generations are kept beside the nodes' own disks.

use super::*;
use crate::config::model::{Endpoint, Etcd};

/// The reference with these lines in `[config]`.
fn keeping(lines: &str) -> Result<Option<Etcd>, ConfigErrors> {
    cluster_text(&format!("{REFERENCE}\n[config]\n{lines}\n")).map(|cluster| cluster.store)
}

#[test]
fn what_is_left_out_is_the_usual() {
    assert_eq!(keeping("").unwrap(), None);
    assert_eq!(keeping("store = \"nodes\"").unwrap(), None);
    let etcd = keeping("store = \"etcd\"\nendpoints = [\"http://127.0.0.1:2379/\"]").unwrap().unwrap();
    let endpoint = Endpoint { tls: false, address: "127.0.0.1:2379".parse().unwrap() };
    let usual = Etcd {
        endpoints: vec![endpoint],
        prefix: "/rollcall".to_owned(),
        ca: None,
        identity: None,
        user: None,
    };
    assert_eq!(etcd, usual);
}

#[test]
fn what_cannot_be_is_told_at_its_place_with_what_to_do() {
    let etcd = "store = \"etcd\"\n";
    let sound = "endpoints = [\"https://10.0.0.11:2379\"]\nca = \"/ca.pem\"\n";
    let with = |more: &str| format!("{etcd}{sound}{more}");
    let at = |endpoint: &str| format!("{etcd}endpoints = [{endpoint:?}]\nca = \"/ca.pem\"");
    for (lines, text, hint) in [
        ("store = \"consul\"".to_owned(), "`store` cannot be \"consul\"", "choose \"nodes\" or \"etcd\""),
        (etcd.to_owned(), "`endpoints` is missing", "https://10.0.0.11:2379"),
        ("prefix = \"/a\"".to_owned(), "`prefix` is for an etcd", "add store = \"etcd\""),
        (format!("store = \"nodes\"\n{sound}"), "`endpoints` is for an etcd", "or remove this"),
        (at("10.0.0.11:2379"), "is not the URL of a member", "is such"),
        (at("ftp://10.0.0.11:2379"), "is not the URL of a member", "is such"),
        (at("https://10.0.0.11"), "has no port", "2379"),
        (at("https://10.0.0.11:0"), "has no port", "2379"),
        (at("https://[fd00::1]:2379"), "is an IPv6 address", "is such"),
        (at("https://etcd.example.test:2379"), "looks no names up", "the address that the name stands for"),
        (format!("{etcd}endpoints = [\"https://10.0.0.11:2379\"]"), "`ca` is missing", "etcd-ca.pem"),
        (with("prefix = \"a b\""), "cannot be what keys begin with", "without spaces"),
        (with("prefix = \"/\""), "cannot be what keys begin with", "such as /rollcall"),
        (with("certificate = \"/c.pem\""), "`certificate` needs `key` beside it", ""),
        (with("password_file = \"/p\""), "`password_file` needs `user` beside it", ""),
        (
            with("key = \"k.pem\"\ncertificate = \"/c\""),
            "`key` is \"k.pem\", not a path from the root",
            "leading /",
        ),
        (with("colour = 1"), "unknown key `colour`", "known here"),
    ] {
        let errors = keeping(&lines).unwrap_err().0;
        let [error] = errors.as_slice() else { panic!("{lines}: {errors:?}") };
        assert!(error.text.contains(text), "{lines}: {error:?}");
        assert!(error.hint.as_deref().unwrap_or_default().contains(hint), "{lines}: {error:?}");
        let line = error.place.as_ref().unwrap().line;
        assert!(line > REFERENCE.lines().count(), "{lines}: {error:?}");
    }
    let many = ["\"http://127.0.0.1:2379\""; 9].join(", ");
    let errors = keeping(&format!("{etcd}endpoints = [{many}]")).unwrap_err();
    assert!(errors.to_string().contains("more than 8 endpoints"), "{errors}");
}

#[test]
fn files_for_etcd_are_looked_at_and_what_travels_in_clear_is_told() {
    let folder = Folder::new();
    let (empty, rubbish) = (folder.write("empty", b"\n"), folder.write("rubbish", b"rubbish"));
    let cluster = |lines: &str| {
        let text = format!("{REFERENCE}\n[config]\nstore = \"etcd\"\n{lines}\n");
        let cluster = cluster_text(&text).unwrap();
        Config {
            cluster,
            local: local_from("name = \"arr1\"\ninterface = \"eth0\"").unwrap(),
            files: Files::Disk,
        }
    };
    let errors = |lines: &str| -> Vec<String> {
        let findings = files::examine(&cluster(lines));
        let own = findings.errors.iter().filter(|error| error.path.starts_with(&folder.0));
        own.map(|error| error.text.clone()).collect()
    };
    let tls = format!("endpoints = [\"https://10.0.0.11:2379\"]\nca = {rubbish:?}\n");
    assert_eq!(errors(&tls), ["no certificate in this file"]);
    let clear = "endpoints = [\"http://10.0.0.11:2379\"]\n";
    let password = format!("{clear}user = \"rollcall\"\npassword_file = {empty:?}\n");
    assert_eq!(errors(&password), ["its first line is empty"]);
    let warnings = |lines: &str| warnings(&cluster(lines)).join("\n");
    assert!(
        warnings(&password)
            .contains("the configuration and the password travel in clear to http://10.0.0.11:2379")
    );
    assert!(!warnings("endpoints = [\"http://127.0.0.1:2379\"]").contains("in clear"));
    assert!(warnings("endpoints = [\"http://127.0.0.1:2379\"]").contains("is for nodes that share"));
}
