//! Edits change what they are for, and not a byte of another line.

use proptest::prelude::*;
use toml::Table;

use super::*;

const FILE: &str = "\
# The cluster of the DMZ.
[cluster]
ip   = \"192.168.50.8/24\"   # known to the router
mode = \"multicast\"

# the left one
[[node]]
name = \"arr1\"
address = \"192.168.50.6\"
priority = 1 # the default host

# the right one
[[node]]
name = \"arr2\"
address = \"192.168.50.7\"
priority = 2

[exchange] # publishes
names = [
  \"mail.example.test\", # the first
]
certificate = \"/etc/rollcall/mail.pem\"
servers = [\"10.0.0.36\"]
# a remark at the end
[[site]]
names = [\"www.example.test\", \"shop.example.test\"]
certificate = '/w.pem'
";

fn path(text: &str) -> Path {
    text.parse().unwrap()
}

fn text(text: &str) -> Literal {
    Literal::Text(text.to_owned())
}

fn fields(pairs: &[(&str, Literal)]) -> Vec<(String, Literal)> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect()
}

/// The edit's result, as what was replaced by what in `FILE`.
fn assert_replaces(edit: Edit, from: &str, to: &str) {
    assert_eq!(FILE.matches(from).count(), 1, "{from}");
    for ending in ["\n", "\r\n"] {
        let file = |text: &str| text.replace('\n', ending);
        assert_eq!(
            apply(&file(FILE), std::slice::from_ref(&edit)).unwrap(),
            file(&FILE.replace(from, to)),
            "{edit:?}"
        );
    }
}

#[test]
fn an_edit_changes_what_it_is_for_and_nothing_else() {
    let set = |way: &str, value| Edit::Set(path(way), value);
    assert_replaces(set("node[arr1].priority", Literal::Number(7)), "priority = 1 #", "priority = 7 #");
    assert_replaces(set("cluster.ip", text("10.0.0.8/8")), "\"192.168.50.8/24\"   #", "\"10.0.0.8/8\"   #");
    assert_replaces(set("exchange.certificate", text("/new.pfx")), "/etc/rollcall/mail.pem", "/new.pfx");
    assert_replaces(set("site[shop.example.test].certificate", text("/s.pem")), "'/w.pem'", "\"/s.pem\"");
    let key = "servers = [\"10.0.0.36\"]\n";
    assert_replaces(set("exchange.key", text("/mail.key")), key, &format!("{key}key = \"/mail.key\"\n"));
    assert_replaces(Edit::Remove(path("exchange.servers")), key, "");
    let second = "\n# the right one\n[[node]]\nname = \"arr2\"\naddress = \"192.168.50.7\"\npriority = 2\n";
    assert_replaces(Edit::Remove(path("node[arr2]")), second, "");
    let added = fields(&[
        ("name", text("arr3")),
        ("address", text("192.168.50.9")),
        ("priority", Literal::Number(3)),
    ]);
    let third = "\n[[node]]\nname = \"arr3\"\naddress = \"192.168.50.9\"\npriority = 3\n";
    assert_replaces(
        Edit::Add { list: "node".to_owned(), fields: added },
        second,
        &format!("{second}{third}"),
    );
    let replaced = fields(&[
        ("name", text("arr1")),
        ("address", text("192.168.50.6")),
        ("priority", Literal::Number(9)),
        ("weight", Literal::Number(10)),
    ]);
    assert_replaces(
        Edit::Replace(path("node[arr1]"), replaced),
        "priority = 1 # the default host\n",
        "priority = 9 # the default host\nweight = 10\n",
    );
    let last = "certificate = '/w.pem'\n";
    assert_replaces(
        set("limits.head_fields", Literal::Number(300)),
        last,
        &format!("{last}\n[limits]\nhead_fields = 300\n"),
    );
}

#[test]
fn edits_are_made_in_their_order_or_none_is() {
    let add = |name: &str| Edit::Add { list: "node".to_owned(), fields: fields(&[("name", text(name))]) };
    let changed = apply(
        FILE,
        &[
            add("arr3"),
            Edit::Set(path("node[arr3].weight"), Literal::Number(5)),
            Edit::Remove(path("node[arr1]")),
        ],
    )
    .unwrap();
    let nodes = changed.parse::<Table>().unwrap()["node"].as_array().unwrap().clone();
    assert_eq!(nodes.len(), 2);
    assert_eq!(nodes[1]["weight"].as_integer(), Some(5));
    assert_eq!(apply("", &[add("arr1")]).unwrap(), "[[node]]\nname = \"arr1\"\n");
}

#[test]
fn an_edit_that_cannot_be_made_says_why_and_what_there_is() {
    for (edit, wanted) in [
        (
            Edit::Remove(path("node[arr9]")),
            "there is no node named arr9 in the file; hint: there are: arr1, arr2",
        ),
        (
            Edit::Remove(path("exchange.colour")),
            "there is no exchange.colour in the file; hint: there are: names, certificate, servers",
        ),
        (
            Edit::Set(path("node.weight"), Literal::Number(1)),
            "node is no table in the file; hint: a list's entry is named too",
        ),
        (Edit::Set(path("node[arr1]"), Literal::Number(1)), "node[arr1] is no key"),
        (Edit::Replace(path("exchange"), Vec::new()), "exchange is no entry of a list"),
        (Edit::Remove(path("farm[web].name")), "there is no [[farm]] in the file"),
        (Edit::Set(path("cluster.ip.x"), Literal::Number(1)), "ip is no table"),
        (
            Edit::Add { list: "node".to_owned(), fields: fields(&[("name", text("arr2"))]) },
            "there is a node named arr2 already",
        ),
        (
            Edit::Add {
                list: "site".to_owned(),
                fields: fields(&[("names", Literal::List(vec![text("shop.example.test")]))]),
            },
            "already",
        ),
    ] {
        let error = apply(FILE, &[edit]).unwrap_err().to_string();
        assert!(error.starts_with(wanted) || error.contains("already") && wanted == "already", "{error}");
    }
    assert!(apply("a = [", &[]).is_ok() && apply("a = [", &[Edit::Remove(Path::key("a"))]).is_err());
}

#[test]
fn a_way_is_read_as_it_is_written_and_anything_else_refused() {
    for way in
        ["cluster", "exchange.health.path", "node[arr1].weight", "site[mail.example.test].route[x].path"]
    {
        assert_eq!(path(way).to_string(), way);
    }
    for wrong in ["", ".", "a.", "a..b", "a[", "a[]", "a[b]c", "[b]", "a b", "\"a\"", "a[b]."] {
        assert!(wrong.parse::<Path>().is_err(), "{wrong}");
    }
    assert_eq!(Path::entry("node", "arr1").then("weight"), path("node[arr1].weight"));
}

#[test]
fn what_is_typed_is_a_value_of_the_file_or_text() {
    for (typed, wanted) in [
        ("5", Literal::Number(5)),
        ("true", Literal::Flag(true)),
        ("\"5\"", text("5")),
        ("/etc/mail.pem", text("/etc/mail.pem")),
        ("5s", text("5s")),
        ("[\"a\", 1]", Literal::List(vec![text("a"), Literal::Number(1)])),
        ("1.5", text("1.5")),
    ] {
        assert_eq!(Literal::typed(typed), wanted, "{typed}");
    }
}

/// A file of nodes and a table, with comments, spaces and endings of all kinds.
fn files() -> impl Strategy<Value = String> {
    let comment = || prop_oneof![Just(""), Just(" # why"), Just("\t#ü"), Just("   ")];
    let between =
        || proptest::collection::vec(prop_oneof![Just(""), Just("# remark"), Just("  # indented")], 0..3);
    let key = (prop_oneof![Just("="), Just(" = "), Just("  =\t")], comment());
    let node = (
        between(),
        proptest::collection::vec(key, 3),
        prop_oneof![Just(""), Just("weights = { a = 1, b = [2, 3] }")],
    );
    (proptest::collection::vec(node, 1..5), between(), any::<bool>(), any::<bool>()).prop_map(
        |(nodes, end, windows, cut)| {
            let mut lines: Vec<String> = vec!["[cluster]".to_owned(), "ip = 'x' # ip".to_owned()];
            for (number, (before, keys, more)) in nodes.into_iter().enumerate() {
                lines.extend(before.into_iter().map(str::to_owned));
                lines.push("[[node]] # node".to_owned());
                let values = [format!("\"n{number}\""), "'''a'''".to_owned(), "0x10".to_owned()];
                for ((equals, comment), (key, value)) in
                    keys.into_iter().zip(["name", "address", "priority"].into_iter().zip(values))
                {
                    lines.push(format!("{key}{equals}{value}{comment}"));
                }
                lines.push(more.to_owned());
            }
            lines.extend(end.into_iter().map(str::to_owned));
            let ending = if windows { "\r\n" } else { "\n" };
            let text = lines.join(ending);
            if cut { text } else { text + ending }
        },
    )
}

/// An edit of the node `n0`, or of all.
fn edits() -> impl Strategy<Value = Edit> {
    let value = || {
        prop_oneof![
            any::<i64>().prop_map(Literal::Number),
            any::<bool>().prop_map(Literal::Flag),
            "\\PC{0,9}|[\\r\\n\"\\\\']{1,4}".prop_map(Literal::Text)
        ]
    };
    let key = || prop_oneof![Just("address"), Just("priority"), Just("weight")];
    prop_oneof![
        (key(), value()).prop_map(|(key, value)| Edit::Set(Path::entry("node", "n0").then(key), value)),
        value().prop_map(|value| Edit::Set(Path::key("limits").then("idle"), value)),
        prop_oneof![Just("address"), Just("priority")]
            .prop_map(|key| Edit::Remove(Path::entry("node", "n0").then(key))),
        Just(Edit::Remove(Path::entry("node", "n0"))),
        value().prop_map(|value| Edit::Add {
            list: "node".to_owned(),
            fields: fields(&[("name", text("new")), ("priority", value)])
        }),
    ]
}

fn toml_value(literal: &Literal) -> toml::Value {
    match literal {
        Literal::Text(text) => text.as_str().into(),
        Literal::Number(number) => (*number).into(),
        Literal::Flag(flag) => (*flag).into(),
        Literal::List(list) => list.iter().map(toml_value).collect::<Vec<_>>().into(),
    }
}

/// What the edit means, made on the values alone.
fn meant(mut table: Table, edit: &Edit) -> Table {
    let first = |table: &mut Table| table["node"].as_array_mut().unwrap().remove(0);
    match edit {
        Edit::Set(way, value) if *way == Path::key("limits").then("idle") => {
            table.insert(
                "limits".to_owned(),
                Table::from_iter([("idle".to_owned(), toml_value(value))]).into(),
            );
        }
        Edit::Set(way, value) => {
            let Step::Key(key) = way.split_last().0 else { unreachable!() };
            let node = table["node"].as_array_mut().unwrap()[0].as_table_mut().unwrap();
            node.insert(key.clone(), toml_value(value));
        }
        Edit::Remove(way) => match way.split_last().0 {
            Step::Key(key) => {
                table["node"].as_array_mut().unwrap()[0].as_table_mut().unwrap().remove(key);
            }
            Step::Entry { .. } => {
                first(&mut table);
                if table["node"].as_array().unwrap().is_empty() {
                    table.remove("node");
                }
            }
        },
        Edit::Add { fields, .. } => {
            let entry: Table = fields.iter().map(|(key, value)| (key.clone(), toml_value(value))).collect();
            table["node"].as_array_mut().unwrap().push(entry.into());
        }
        Edit::Replace(..) => unreachable!("not among `edits`"),
    }
    table
}

proptest! {
    #[test]
    fn what_was_asked_for_is_read_back_and_untouched_lines_keep_every_byte(file in files(), edit in edits()) {
        let changed = apply(&file, std::slice::from_ref(&edit)).unwrap();

        prop_assert_eq!(changed.parse::<Table>().unwrap(), meant(file.parse().unwrap(), &edit), "{}", changed);
        // One run of lines differs: what is before and behind it is there with every byte.
        let old: Vec<&str> = file.split_inclusive('\n').collect();
        let new: Vec<&str> = changed.split_inclusive('\n').collect();
        let before = old.iter().zip(&new).take_while(|(old, new)| old == new).count();
        let most = old.len().min(new.len()) - before;
        let behind = old.iter().rev().zip(new.iter().rev()).take_while(|(old, new)| old == new).count().min(most);
        let gone = old.len() - before - behind;
        let come = new.len() - before - behind;
        // A last line that ended without a line break gets one when something comes behind it.
        let unended = usize::from(!file.ends_with('\n'));
        let (most_gone, most_come) = match &edit {
            Edit::Set(..) => (1 + unended, 4 + unended),
            Edit::Remove(way) if matches!(way.split_last().0, Step::Key(_)) => (1 + unended, unended),
            Edit::Remove(_) => (8 + unended, unended),
            Edit::Add { .. } => (unended, 4 + unended + 3),
            Edit::Replace(..) => unreachable!(),
        };
        prop_assert!(gone <= most_gone && come <= most_come, "{} {}\n{}\n----\n{}", gone, come, file, changed);
    }
}
