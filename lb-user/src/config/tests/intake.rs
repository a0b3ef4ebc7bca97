//! All that is wrong with a file's form is told at once, each with its place and its cure.

use proptest::prelude::*;

use super::*;

/// What is told of `text`, a line each: `LINE:COLUMN: TEXT`, or the text alone.
fn told(text: &str) -> Vec<String> {
    let errors = cluster_text(text).expect_err("accepted").0;
    errors.iter().map(line_of).collect()
}

fn line_of(error: &ConfigError) -> String {
    let place = error.place.as_ref().map(|place| format!("{}:{}: ", place.line, place.column));
    format!("{}{}", place.unwrap_or_default(), error.text)
}

#[test]
fn unknown_keys_wrong_types_and_missing_keys_of_all_tables_are_told_at_once() {
    let text = r#"[cluster]
ip = 5
mode = "multicast"
colour = "red"

[[node]]
nam = "arr1"
adress = 7
priority = "first"

[[node]]
name = "arr2"

[exchange]
names = ["mail.example.test", 3, 4]
servers = ["10.0.0.36", { nme = "x" }, 5]
redirect_http = "yes"
rate = { requests = 3 }

[exchange.health]
interval = "soon"
pth = "/"

[[tcp]]
name = "smtp"
port = 70000
"#;
    let expected = [
        "2:6: wrong type: integer `5`",
        "4:1: unknown key `colour`",
        "7:1: unknown key `nam`",
        "8:1: unknown key `adress`",
        "8:10: wrong type: integer `7`",
        "9:12: wrong type: string \"first\"",
        "11:1: `address` is missing here",
        "11:1: `priority` is missing here",
        "14:1: `certificate` is missing here",
        "15:31: wrong type: integer `3`",
        "15:34: wrong type: integer `4`",
        "16:25: `address` is missing here",
        "16:27: unknown key `nme`",
        "16:40: wrong type: integer `5`",
        "17:17: wrong type: string \"yes\"",
        "18:8: `per` is missing here",
        "21:12: wrong value: string \"soon\"",
        "22:1: unknown key `pth`",
        "26:8: wrong value: integer `70000`",
    ];
    assert_eq!(told(text), expected);
}

#[test]
fn a_table_that_only_its_parts_mention_lacks_its_keys() {
    let text = REFERENCE.replace("[exchange]", "[[rule]]\nports = 443\n[site]\n[x]");
    let text = text.split("names =").next().unwrap().to_owned() + "\n[exchange.tests.owa]\npath = \"/\"\n";
    let all = told(&text);
    for key in ["names", "certificate", "servers"] {
        assert!(
            all.iter().any(|line| line.ends_with(&format!("`{key}` is missing here"))),
            "{key}: {all:#?}"
        );
    }
    assert!(all.iter().any(|line| line.contains("unknown key `x`")), "{all:#?}");
    assert!(all.iter().any(|line| line.contains("wrong type: map")), "{all:#?}");
}

#[test]
fn a_file_without_a_cluster_lacks_it_and_is_told_the_rest_too() {
    assert_eq!(
        told("nodes = 5\n"),
        ["`cluster` is missing here", "1:1: unknown key `nodes`", "1:9: wrong type: integer `5`"]
    );
}

#[test]
fn errors_of_syntax_are_told_a_line_each() {
    let text = REFERENCE
        .replace("mode = \"multicast\"", "mode = multicast")
        .replace("address = \"192.168.50.6\"", "address = \"192.168.50.6")
        .replace("priority = 2", "priority 2");
    let all = told(&text);
    let lines: Vec<&str> = all.iter().filter_map(|line| line.split(':').next()).collect();
    assert_eq!(lines, ["3", "7", "13"], "{all:#?}");
}

#[test]
fn both_files_are_told_at_once() {
    let folder = Folder::new();
    let path = folder.write("cluster.toml", REFERENCE.replace("mode =", "mod =").as_bytes());
    folder.write("node.toml", b"name = \"arr1\"\ninterfce = \"eth0\"\nxdp = \"fast\"\nrun_dir = \"run\"\n");
    let errors = load(&path, None).unwrap_err().0;
    let told: Vec<_> = errors
        .iter()
        .map(|error| (error.path.file_name().unwrap().to_str().unwrap(), line_of(error)))
        .collect();
    let expected = [("cluster.toml", "3:1: unknown key `mod`"), ("node.toml", "2:1: unknown key `interfce`")];
    assert_eq!(told, expected.map(|(file, line)| (file, line.to_owned())));

    folder.write("node.toml", b"name = \"arr1\"\ninterface = \"eth0\"\nxdp = \"fast\"\nrun_dir = \"run\"\n");
    let errors = load(&path, None).unwrap_err().0;
    assert_eq!(errors.iter().map(line_of).collect::<Vec<_>>().len(), 3, "{errors:?}");
}

#[test]
fn a_path_on_a_share_has_a_sentence_of_its_own() {
    for written in [
        r#""\\\\files\\rollcall\\mail.pfx""#,
        r#"'\\files\rollcall\mail.pfx'"#,
        r#""//files/rollcall/mail.pfx""#,
        r#""\\files\rollcall\mail.pfx""#,
    ] {
        let text = REFERENCE.replace("\"/etc/rollcall/mail.pem\"", written);
        let errors = cluster_text(&text).unwrap_err().0;
        let [error] = errors.as_slice() else { panic!("{errors:#?}") };
        assert_eq!(error.place.as_ref().unwrap().line, 17, "{written}");
        assert!(error.text.contains("is on a file server: the nodes would all fail with it"), "{error}");
        assert!(error.hint.as_ref().unwrap().contains("copy the file to each node"), "{error}");
    }
}

#[test]
fn a_file_full_of_errors_is_told_some_dozens_of_them() {
    let nodes = "[[node]]\nnme = 1\n".repeat(20_000);
    let count = told(&format!("{REFERENCE}\n{nodes}")).len();
    assert!((5..=50).contains(&count), "{count}");
}

/// Lines of the reference that it cannot do without, and what is told when they are gone.
const NEEDED: &[(&str, &str)] = &[
    ("name = \"arr1\"\n", "`name` is missing here"),
    ("address = \"192.168.50.6\"\n", "`address` is missing here"),
    ("priority = 2\n", "`priority` is missing here"),
    ("names = [\"mail.example.test\", \"autodiscover.example.test\"]\n", "`names` is missing here"),
    ("certificate = \"/etc/rollcall/mail.pem\"\n", "`certificate` is missing here"),
];

proptest! {
    #[test]
    fn as_many_errors_are_told_as_were_made(
        missing in proptest::sample::subsequence(NEEDED.to_vec(), 0..=NEEDED.len()),
        unknown in proptest::sample::subsequence(vec!["ip =", "address = \"192.168.50.7\"", "servers ="], 0..=3),
    ) {
        let mut text = REFERENCE.to_owned();
        let mut expected = Vec::new();
        for (line, says) in missing {
            text = text.replacen(line, "", 1);
            expected.push(says);
        }
        for line in unknown {
            text = text.replacen(line, &format!("zzzzzzzzzzzzzzzzzzzz = 1\n{line}"), 1);
            expected.push("unknown key `zzzzzzzzzzzzzzzzzzzz`");
        }
        prop_assume!(!expected.is_empty());
        let errors = cluster_text(&text).unwrap_err().0;
        let mut texts: Vec<&str> = errors.iter().map(|error| error.text.as_str()).collect();
        texts.sort_unstable();
        expected.sort_unstable();
        prop_assert_eq!(texts, expected);
    }
}
