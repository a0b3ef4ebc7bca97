//! What a cluster begins with: the text of its first configuration, and the first generation.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use thiserror::Error;
use toml_edit::{ArrayOfTables, DocumentMut, Item, Table, TomlError, value};

use super::draft::{Draft, DraftError, roster};
use super::generation::{Generation, Saying};
use super::keys::{NodeKeys, PublicKeys};
use super::portable::Portable;
use super::record::{Record, SignedRecord, Word};
use super::sealed::{SealError, Secrets};
use crate::config;
use crate::config::held::named;
use crate::config::secret::{ClusterSecret, MalformedSecret};

/// What the first node is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Founding {
    /// The cluster IP with its prefix length.
    pub ip: String,
    /// How frames reach all nodes.
    pub mode: String,
    /// The first node.
    pub node: NewNode,
    /// What is published, if anything is yet.
    pub exchange: Option<Exchange>,
}

/// A node that comes in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewNode {
    /// Its name.
    pub name: String,
    /// Its own address.
    pub address: Ipv4Addr,
    /// Its host priority, 1 to 64.
    pub priority: u8,
}

/// An Exchange front end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exchange {
    /// The public names.
    pub names: Vec<String>,
    /// The servers' addresses.
    pub servers: Vec<String>,
    /// The file with the certificate.
    pub certificate: PathBuf,
    /// The file with its key, where that is another.
    pub key: Option<PathBuf>,
    /// The file with the password of either.
    pub password_file: Option<PathBuf>,
}

impl Founding {
    /// The configuration, with comments for who reads it first.
    pub fn text(&self, keys: &PublicKeys) -> String {
        let Self { ip, mode, node: NewNode { name, address, priority }, exchange } = self;
        let mut text = format!(
            "# What all nodes of this cluster share. Change it on any of them: rollcall config edit\n\n\
             [cluster]\n\
             ip = {ip:?}                # the cluster IP, with its network's prefix length\n\
             mode = {mode:?}                  # how frames reach all nodes: \"multicast\", \"igmp\" or \"unicast\"\n\n\
             # Each node, once; `rollcall join` on the next one adds it here. The lowest priority alive is the default host.\n\
             [[node]]\n\
             name = {name:?}\n\
             address = \"{address}\"\n\
             priority = {priority}\n\
             keys = \"{keys}\"\n"
        );
        if let Some(exchange) = exchange {
            text.push_str(&exchange.text());
        } else {
            text.push_str(EXAMPLE);
        }
        text
    }
}

impl Exchange {
    fn text(&self) -> String {
        let path = |path: &PathBuf| format!("{:?}", path.display().to_string());
        let mut text = format!(
            "\n# Outlook, phones and browsers to Exchange; `rollcall check --expand` prints what this stands for.\n\
             [exchange]\n\
             names = {:?}\n\
             servers = {:?}\n\
             certificate = {}\n",
            self.names,
            self.servers,
            path(&self.certificate)
        );
        if let Some(key) = &self.key {
            text.push_str(&format!("key = {}\n", path(key)));
        }
        if let Some(file) = &self.password_file {
            text.push_str(&format!("password_file = {}\n", path(file)));
        }
        text.push_str(
            "# ecp = [\"10.0.0.0/8\"]    # who may use /ecp: closed to all unless networks are listed\n",
        );
        text
    }
}

const EXAMPLE: &str = r#"
# What is published. An Exchange front end is four lines:
# [exchange]
# names = ["mail.example.test", "autodiscover.example.test"]
# servers = ["10.0.0.36", "10.0.0.37"]
# certificate = "/root/mail.pfx"
# password_file = "/root/mail.password"
"#;

/// `text` with `node` among its nodes, which has these keys; one of this name, or address, gets the keys alone.
pub fn with_node(text: &str, node: &NewNode, keys: &PublicKeys) -> Result<String, TomlError> {
    let mut document: DocumentMut = text.parse()?;
    let nodes = document.entry("node").or_insert_with(|| Item::ArrayOfTables(ArrayOfTables::new()));
    if let Some(nodes) = nodes.as_array_of_tables_mut() {
        let is_it = |table: &&mut Table| table.get("name").and_then(Item::as_str) == Some(node.name.as_str());
        if let Some(table) = nodes.iter_mut().find(is_it) {
            table.insert("keys", value(keys.word()));
        } else {
            let mut table = Table::new();
            table.insert("name", value(&node.name));
            table.insert("address", value(node.address.to_string()));
            table.insert("priority", value(i64::from(node.priority)));
            table.insert("keys", value(keys.word()));
            nodes.push(table);
        }
    }
    Ok(document.to_string())
}

/// `text` without the node of this name, nor what rules say of it.
pub fn without_node(text: &str, name: &str) -> Result<String, TomlError> {
    let mut document: DocumentMut = text.parse()?;
    if let Some(nodes) = document.get_mut("node").and_then(Item::as_array_of_tables_mut) {
        let is_it = |table: &Table| table.get("name").and_then(Item::as_str) == Some(name);
        let index = nodes.iter().position(is_it);
        if let Some(index) = index {
            let above = nodes.get(index).map(|table| table.decor().clone());
            nodes.remove(index);
            // What stands above the first is about all of them.
            if let (0, Some(above), Some(first)) = (index, above, nodes.get_mut(0)) {
                *first.decor_mut() = above;
            }
        }
    }
    keep_in_rules(&mut document, |node| node != name);
    Ok(document.to_string())
}

/// `text` with `node` as its only node, which has these keys: one of this name stays what it was, at this address. What rules say of
/// other nodes goes with them.
pub fn with_only(text: &str, node: &NewNode, keys: &PublicKeys) -> Result<String, TomlError> {
    let mut document: DocumentMut = text.parse()?;
    if let Some(nodes) = document.get_mut("node").and_then(Item::as_array_of_tables_mut) {
        nodes.retain(|table| table.get("name").and_then(Item::as_str) == Some(node.name.as_str()));
        let address = node.address.to_string();
        for table in nodes.iter_mut() {
            if table.get("address").and_then(Item::as_str) != Some(address.as_str()) {
                table.insert("address", value(&address));
            }
        }
    }
    keep_in_rules(&mut document, |name| name == node.name);
    with_node(&document.to_string(), node, keys)
}

/// Leaves of what rules have of each node that of the nodes that stay.
pub(super) fn keep_in_rules(document: &mut DocumentMut, stays: impl Fn(&str) -> bool) {
    let rules = document.get_mut("rule").and_then(Item::as_array_of_tables_mut);
    for rule in rules.into_iter().flat_map(ArrayOfTables::iter_mut) {
        for key in BY_NODE {
            let Some(numbers) = rule.get_mut(key).and_then(Item::as_table_like_mut) else { continue };
            let gone: Vec<String> =
                numbers.iter().map(|(name, _)| name.to_owned()).filter(|name| !stays(name)).collect();
            gone.iter().for_each(|name| drop(numbers.remove(name)));
            if numbers.is_empty() {
                rule.remove(key);
            }
        }
    }
}

/// What a rule has of each node.
const BY_NODE: [&str; 2] = ["weights", "handling_priorities"];

/// The first generation of a cluster that is restored from `portable` on a host that has nothing, and the word that puts it in
/// force. The cluster secret is that of before, and with it the cluster's identity, its hash seed and all that derives from them;
/// `node` is the only node, with keys of its own, and the others come in as into any cluster. Nothing is read from the disk.
pub fn restore(
    portable: Portable,
    node: &NewNode,
    keys: &NodeKeys,
    time: u64,
) -> Result<(Generation, SignedRecord), RestoreError> {
    let Portable { generation: from, by, text, mut secrets, .. } = portable;
    ClusterSecret::parse(&secrets.cluster)?;
    let text = with_only(&text, node, &keys.public())?;
    let cluster = config::cluster_of(text.as_bytes(), Path::new("the configuration"))
        .map_err(|errors| RestoreError::Draft(DraftError::Config(errors)))?;
    let named: BTreeSet<String> =
        named(&cluster).into_iter().map(|path| path.to_string_lossy().into_owned()).collect();
    if let Some(path) = named.iter().find(|path| !secrets.files.contains_key(*path)) {
        return Err(RestoreError::Missing { path: path.clone() });
    }
    secrets.files.retain(|path, _| named.contains(path));
    let roster = roster(&text)?;
    if roster != [(node.name.clone(), keys.public())].into() {
        return Err(RestoreError::Nodes);
    }
    let content = Draft { text, secrets, kept: Vec::new() }.seal(&roster)?;
    let comment = format!("restored from generation {}, which {by} exported", from.short());
    let saying = Saying { author: node.name.clone(), time, comment, restores: Some(from), roster };
    let generation = Generation::new(None, saying, content, keys);
    let record = in_force(&generation, &node.name, keys, time);
    Ok((generation, record))
}

/// The word that a generation is in force.
fn in_force(generation: &Generation, by: &str, keys: &NodeKeys, time: u64) -> SignedRecord {
    let (generation, by) = (generation.id(), by.to_owned());
    SignedRecord::new(Record { generation, word: Word::InForce, by, time, why: String::new() }, keys)
}

/// A cluster's first generation, and the word that puts it in force.
pub fn found(
    text: String,
    name: &str,
    secret: &[u8; 32],
    keys: &NodeKeys,
    time: u64,
) -> Result<(Generation, SignedRecord), FoundError> {
    let cluster = secret.iter().map(|byte| format!("{byte:02x}")).collect();
    let nothing = Secrets { cluster, epoch: 1, ..Secrets::default() };
    let draft = Draft::new(text, Path::new("the configuration"), &nothing, true)?;
    let roster = roster(&draft.text)?;
    let content = draft.seal(&roster)?;
    let saying = Saying {
        author: name.to_owned(),
        time,
        comment: "the cluster begins".to_owned(),
        restores: None,
        roster,
    };
    let generation = Generation::new(None, saying, content, keys);
    let record = in_force(&generation, name, keys, time);
    Ok((generation, record))
}

/// Why there is no first generation.
#[derive(Debug, Error)]
pub enum FoundError {
    /// The configuration, or a file that it names.
    #[error(transparent)]
    Draft(#[from] DraftError),
    /// It cannot be sealed.
    #[error(transparent)]
    Seal(#[from] SealError),
}

/// Why a cluster is not restored. Nothing was changed.
#[derive(Debug, Error)]
pub enum RestoreError {
    /// The configuration.
    #[error(transparent)]
    Draft(#[from] DraftError),
    /// It is no TOML.
    #[error("the exported configuration is no TOML")]
    Toml(#[from] TomlError),
    /// It cannot be sealed.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// The cluster secret is none.
    #[error("the cluster secret in it cannot be used: {0}")]
    Secret(#[from] MalformedSecret),
    /// A file is not in it.
    #[error("it does not hold {path}, which its configuration names; hint: export it anew")]
    Missing {
        /// The file.
        path: String,
    },
    /// The nodes are written in another way.
    #[error(
        "the nodes of its configuration cannot be replaced by this one; hint: write each as `[[node]]` where it was exported, and export it anew"
    )]
    Nodes,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::cluster_of;
    use crate::shared::generation::GenerationId;
    use crate::shared::keys::tests::keys;
    use crate::shared::sealed::Bytes;

    fn founding() -> Founding {
        Founding {
            ip: "192.168.50.8/24".to_owned(),
            mode: "unicast".to_owned(),
            node: NewNode { name: "arr1".to_owned(), address: Ipv4Addr::new(192, 168, 50, 6), priority: 1 },
            exchange: Some(Exchange {
                names: vec!["mail.example.test".to_owned(), "autodiscover.example.test".to_owned()],
                servers: vec!["10.0.0.36".to_owned()],
                certificate: "/root/my \"mail\".pfx".into(),
                key: None,
                password_file: Some("/root/mail.password".into()),
            }),
        }
    }

    fn checked(text: &str) -> crate::config::model::Cluster {
        cluster_of(text.as_bytes(), Path::new("test")).unwrap_or_else(|errors| panic!("{errors}\n{text}"))
    }

    #[test]
    fn what_a_cluster_begins_with_is_sound_with_and_without_exchange() {
        let (with, keys) = (founding(), keys(1).public());
        let cluster = checked(&with.text(&keys));
        assert_eq!(cluster.nodes[0].keys.as_ref(), Some(&keys));
        assert_eq!(cluster.sites[0].certificate, Path::new("/root/my \"mail\".pfx"));
        let without = checked(&Founding { exchange: None, ..with }.text(&keys));
        assert_eq!(without.sites.len(), 0);
    }

    #[test]
    fn a_node_comes_in_and_all_else_stays_as_it_was_written() {
        let text = founding().text(&keys(1).public());
        let node = NewNode { name: "arr2".to_owned(), address: Ipv4Addr::new(192, 168, 50, 7), priority: 2 };
        let with = with_node(&text, &node, &keys(2).public()).unwrap();
        let nodes: Vec<_> = checked(&with).nodes.into_iter().map(|node| (node.name, node.keys)).collect();
        let wanted =
            [("arr1".to_owned(), Some(keys(1).public())), ("arr2".to_owned(), Some(keys(2).public()))];
        assert_eq!(nodes, wanted);
        text.lines().for_each(|line| assert!(with.contains(line), "{line}"));
        let again = with_node(&with, &node, &keys(3).public()).unwrap();
        assert_eq!(checked(&again).nodes[1].keys, Some(keys(3).public()));
        assert_eq!(again.matches("arr2").count(), 1);
    }

    /// What arr`by` exports, where three nodes share rules with numbers of their own.
    fn exported(by: u8) -> Portable {
        let mut text = founding().text(&keys(1).public());
        for number in 2..=3_u8 {
            let address = Ipv4Addr::new(192, 168, 50, 5 + number);
            let node = NewNode { name: format!("arr{number}"), address, priority: number };
            text = with_node(&text, &node, &keys(number).public()).unwrap();
        }
        text.push_str(
            "\n# the console's\n[[rule]]\nports = 8443\nfiltering = \"single\"\nhandling_priorities = { arr1 = 3, arr2 = 1, arr3 = 2 }\n\
             [[rule]]\nports = 25\nweights = { arr2 = 30, arr3 = 70 } # all to the others\n",
        );
        let file = |name: &str, bytes: &[u8]| (name.to_owned(), Bytes(bytes.to_vec()));
        let files = [file("/root/my \"mail\".pfx", b"pfx"), file("/root/mail.password", b"word")];
        Portable {
            generation: GenerationId::from_bytes([7; 32]),
            height: 12,
            by: format!("arr{by}"),
            time: 1,
            text,
            secrets: Secrets { cluster: "0f".repeat(32), epoch: 4, files: files.into() },
        }
    }

    /// The same cluster, but with one node, which has keys of its own.
    #[test]
    fn a_restored_cluster_is_the_one_that_it_was_with_one_node_of_new_keys() {
        let portable = exported(1);
        let node = NewNode { name: "arr2".to_owned(), address: Ipv4Addr::new(192, 168, 50, 77), priority: 9 };
        let (generation, record) = restore(portable.clone(), &node, &keys(5), 2).unwrap();
        let header = generation.head.header();
        assert_eq!(generation.head.check(None), Ok(()));
        assert_eq!(record.check(&[&header.roster]), Ok(()));
        assert_eq!((header.height, header.restores), (1, Some(portable.generation)));
        assert_eq!(header.roster, [("arr2".to_owned(), keys(5).public())].into());
        let secrets = Secrets::open(&generation.content.sealed, &keys(5)).unwrap();
        assert_eq!(secrets, portable.secrets);
        let text = &generation.content.text;
        let cluster = checked(text);
        assert_eq!((cluster.nodes[0].address, cluster.nodes[0].priority.number()), (node.address, 2));
        let numbers = |key: &str| {
            let line = text.lines().find(|line| line.starts_with(key));
            line.map(|line| line.replace(' ', "")).unwrap_or_default()
        };
        assert_eq!(numbers("handling_priorities"), "handling_priorities={arr2=1}");
        assert_eq!(numbers("weights"), "weights={arr2=30}#alltotheothers");
        let named = |node: &str| text.contains(&format!("{node:?}"));
        assert!(!named("arr1") && !named("arr3") && text.contains("# the console's"), "{text}");
    }

    #[test]
    fn a_host_that_takes_no_other_s_place_comes_in_as_it_is() {
        let node = NewNode { name: "new1".to_owned(), address: Ipv4Addr::new(192, 168, 50, 9), priority: 5 };
        let (generation, _) = restore(exported(3), &node, &keys(5), 2).unwrap();
        let cluster = checked(&generation.content.text);
        assert_eq!(cluster.nodes.len(), 1);
        assert_eq!((cluster.nodes[0].name.as_str(), cluster.nodes[0].priority.number()), ("new1", 5));
        assert!(
            !generation.content.text.contains("weights") && !generation.content.text.contains("handling")
        );
    }

    #[test]
    fn what_an_export_lacks_is_named_and_never_read_from_the_disk() {
        let node = NewNode { name: "arr1".to_owned(), address: Ipv4Addr::new(192, 168, 50, 6), priority: 1 };
        let mut lacking = exported(1);
        lacking.text = lacking.text.replace("/root/mail.password", "/etc/hostname");
        let refused = restore(lacking, &node, &keys(5), 2).unwrap_err();
        assert!(matches!(&refused, RestoreError::Missing { path } if path == "/etc/hostname"), "{refused}");
        let mut unsound = exported(1);
        unsound.secrets.cluster = "00ff".to_owned();
        let refused = restore(unsound, &node, &keys(5), 2).unwrap_err();
        assert!(
            matches!(refused, RestoreError::Secret(_)) && !refused.to_string().contains("00ff"),
            "{refused}"
        );
        let mut nothing = exported(1);
        nothing.text = "[cluster]\n".to_owned();
        assert!(restore(nothing, &node, &keys(5), 2).is_err());
    }

    #[test]
    fn a_node_goes_with_what_rules_say_of_it_and_all_else_stays_as_it_was_written() {
        let node = NewNode { name: "arr2".to_owned(), address: Ipv4Addr::new(192, 168, 50, 7), priority: 2 };
        let first = Founding { exchange: None, ..founding() }.text(&keys(1).public());
        let both = with_node(&first, &node, &keys(2).public()).unwrap();
        let rules = "\n[[rule]]\nports = 25\nweights = { arr1 = 1, arr2 = 3 } # both\n\n[[rule]]\nports = 26\nweights = { arr1 = 4 }\n";
        let left = without_node(&format!("{both}{rules}"), "arr1").unwrap();
        let cluster = checked(&left);
        let names: Vec<&str> = cluster.nodes.iter().map(|node| node.name.as_str()).collect();
        assert_eq!(names, ["arr2"]);
        for kept in ["# Each node, once; ", "# both", "weights = {", "[[rule]]\nports = 26\n"] {
            assert!(left.contains(kept), "{kept}: {left}");
        }
        assert!(!left.contains("arr1"), "{left}");
        assert_eq!(without_node(&both, "arr3").unwrap(), both);
    }
}
